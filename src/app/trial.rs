//! What `migrate` looks at on this machine before anything is begun: whether the plugin that it goes over to works, and what it leaves as
//! it is.

use crate::config::Target;
use crate::kms::Plugins;
use crate::rotation::{Ask, Audience, Error, Facts, left_clear};

/// Asks a KMS plugin that `migrate` goes over to and that the configuration does not list yet: a socket that nobody listens at would
/// be waited for by every member. What is re-encrypted here goes through it too.
///
/// # Errors
/// The command would be refused, or the plugin does not wrap a key and give it back.
pub(super) async fn trial<A: Audience>(plugins: &Plugins, ask: &Ask, facts: &Facts, audience: &A) -> Result<(), Error> {
    let left = left_clear(ask, facts).map_err(Error::Refused)?;
    if !left.is_empty() {
        audience.notice(&format!(
            "{} stays in the clear: its rule lists nothing but identity, beside rules that encrypt",
            left.join(", ")
        ));
    }
    let Some(Target::Kms(kms)) = &ask.how.to else {
        return Ok(());
    };
    if facts.config.plugins().any(|other| other.endpoint == kms.endpoint) {
        return Ok(());
    }
    let failed = |why: String| Error::Plugin {
        to: kms.to_string(),
        why,
    };
    let plugin = plugins.plugin(kms).map_err(|error| failed(error.to_string()))?;
    plugin.health().await.map_err(|why| failed(why.to_string()))?;
    if plugin.has_returned_a_key() {
        Ok(())
    } else {
        Err(failed("what it gives back is not what it was given to wrap".to_owned()))
    }
}
