//! Keys themselves: that each is drawn, that a name stands for one of them, and what is done with the files that hold them.

mod archive;
mod drawn;
mod files;
mod same_name;
