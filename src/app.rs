//! Wires the rooms together: builds each from its settings, runs them, and ends them in order.

mod build;
mod error;
mod families;
mod reload;
mod run;
mod settings;

pub use error::Error;
pub use families::families;
pub use run::serve;
pub use settings::Settings;
