//! The protocol of key rotation in small: an epoch in etcd that fences writes, members that get a permit, writes under way that
//! arrive at any later time, drivers that take the steps of a rotation or take it back, death at every step, and a restore of
//! etcd. A model checker visits every state that is reachable within the bounds of a [`Setup`], so that what
//! [`property`] promises holds in each order of steps and not in those that a test happens to produce.
//!
//! There is no clock in it. A process that is frozen is a process whose next action is not chosen, and a delay is the same.
//! `docs/protocol.md` has the argument in words, and for each action here the function that carries it out.
//!
//! | file | what |
//! |---|---|
//! | `setup` | the rules of the protocol, each of which can be broken, and the bounds |
//! | `state` | the variables |
//! | `model` | which actions are possible, and what the store and the network do |
//! | `member` | how a process obtains a permit and seals with it |
//! | `driver` | the next step of a rotation, and how it is taken |
//! | `reduce` | which states count as one |
//! | `property` | what holds in every state |

pub mod driver;
pub mod member;
pub mod model;
pub mod property;
pub mod reduce;
pub mod setup;
pub mod state;

pub use model::{Action, Protocol};
pub use setup::{Bounds, Place, Rules, Setup};
