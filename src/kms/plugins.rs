//! The live plugins of this process, so that a configuration that is loaded anew finds those that it has not changed, with
//! their keys, even while they are down.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;

use super::plugin::WeakPlugin;
use super::{Config, Error, Plugin};
use crate::config;

/// The live plugins.
#[derive(Debug)]
pub struct Plugins(Option<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    config: Config,
    live: Mutex<Vec<(config::Kms, WeakPlugin)>>,
}

impl Plugins {
    /// Plugins whose clients run on `runtime`. It must be one that outlives them, and need not be the caller's.
    pub fn new(runtime: Handle, config: Config) -> Self {
        Self(Some(Inner {
            runtime,
            config,
            live: Mutex::default(),
        }))
    }

    /// No plugin can be had: for those who look at a configuration and use no value of it.
    pub fn none() -> Self {
        Self(None)
    }

    /// The plugin that `kms` describes: one that lives, if nothing of the description has changed, or else a new one. Does
    /// not wait for it, and does not fail if nobody listens at its socket.
    ///
    /// # Errors
    /// No plugin can be had here.
    pub fn plugin(&self, kms: &config::Kms) -> Result<Plugin, Error> {
        let inner = self.0.as_ref().ok_or(Error::NoRuntime)?;
        let mut live = inner.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|(_, plugin)| plugin.upgrade().is_some());
        let mut found = live.iter().filter(|(known, _)| known == kms);
        if let Some(plugin) = found.find_map(|(_, plugin)| plugin.upgrade()) {
            return Ok(plugin);
        }
        let plugin = Plugin::start(kms, &inner.runtime, &inner.config);
        live.push((kms.clone(), plugin.downgrade()));
        Ok(plugin)
    }
}
