//! A named health check, and what the health endpoints make of several: the texts are those of Kubernetes' own. Knows of a
//! check only its name, where it counts, and what it says.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::pin::Pin;

use url::form_urlencoded;

/// What a check finds: nothing wrong, with a detail to be shown if there is one; or why not. Fit to be shown to anybody
/// who may look: never a key, a plaintext or a token.
pub type Outcome = Result<Option<String>, String>;

type Run = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// A named health check.
pub struct Check {
    name: String,
    /// Whether `/livez` has it as well as `/readyz` and `/healthz`.
    is_vital: bool,
    run: Run,
}

impl Check {
    /// A check that knows at once.
    pub fn new(name: impl Into<String>, find: impl Fn() -> Outcome + Send + Sync + 'static) -> Self {
        Self::asking(name, move || std::future::ready(find()))
    }

    /// A check that has to ask somebody else. It must come to an end by itself.
    pub fn asking<F>(name: impl Into<String>, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        Self {
            name: name.into(),
            is_vital: false,
            run: Box::new(move || Box::pin(ask())),
        }
    }

    /// The same, and a process that fails it should be restarted.
    #[must_use]
    pub fn vital(mut self) -> Self {
        self.is_vital = true;
        self
    }
}

/// What an endpoint answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) is_healthy: bool,
    pub(super) text: String,
}

/// Answers a path below `/livez`, `/readyz` or `/healthz`; `None` if there is no such path.
///
/// `?verbose` names each check, and so does any failure. `?exclude=NAME`, any number of times, leaves checks out.
pub(super) async fn answer(checks: &[Check], path: &str, query: &str) -> Option<Report> {
    let (endpoint, only) = match path.strip_prefix('/')?.split_once('/') {
        None => (path.strip_prefix('/')?, None),
        Some((endpoint, only)) => (endpoint, Some(only)),
    };
    let is_liveness = match endpoint {
        "livez" => true,
        "readyz" | "healthz" => false,
        _ => return None,
    };
    let mut counted = checks.iter().filter(|check| check.is_vital || !is_liveness);
    match only {
        None => Some(all(counted, endpoint, query).await),
        Some(name) => Some(one(counted.find(|check| check.name == name)?).await),
    }
}

/// Whether `/livez` answers that all is well; else the first check that fails, and why.
///
/// # Errors
/// That check.
pub async fn alive(checks: &[Check]) -> Result<(), String> {
    for check in checks.iter().filter(|check| check.is_vital) {
        if let Err(failure) = (check.run)().await {
            return Err(format!("{}: {failure}", check.name));
        }
    }
    Ok(())
}

async fn one(check: &Check) -> Report {
    let (is_healthy, text) = match (check.run)().await {
        Ok(detail) => (true, detail.map_or("ok".to_owned(), |detail| format!("ok: {detail}"))),
        Err(failure) => (false, format!("failed: {failure}\n")),
    };
    Report { is_healthy, text }
}

async fn all(checks: impl Iterator<Item = &Check>, endpoint: &str, query: &str) -> Report {
    let asked = || form_urlencoded::parse(query.as_bytes());
    let is_verbose = asked().any(|(name, _)| name == "verbose");
    let mut excluded: Vec<Cow<'_, str>> = Vec::new();
    for (name, value) in asked() {
        if name == "exclude" && !excluded.contains(&value) {
            excluded.push(value);
        }
    }
    let mut is_healthy = true;
    let mut text = String::new();
    // One after the other, as Kubernetes does. Writing to a String cannot fail.
    for check in checks {
        let name = &check.name;
        if let Some(at) = excluded.iter().position(|excluded| excluded == name) {
            excluded.swap_remove(at);
            let _ = writeln!(text, "[+]{name} excluded: ok");
            continue;
        }
        let _ = match (check.run)().await {
            Ok(None) => writeln!(text, "[+]{name} ok"),
            Ok(Some(detail)) => writeln!(text, "[+]{name} ok: {detail}"),
            Err(failure) => {
                is_healthy = false;
                writeln!(text, "[-]{name} failed: {failure}")
            }
        };
    }
    if !excluded.is_empty() {
        excluded.sort_unstable();
        let names: Vec<_> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {names}"
        );
    }
    let verdict = if is_healthy { "passed" } else { "failed" };
    let _ = writeln!(text, "{endpoint} check {verdict}");
    if is_healthy && !is_verbose {
        "ok".clone_into(&mut text);
    }
    Report { is_healthy, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> [Check; 3] {
        [
            Check::new("ping", || Ok(None)).vital(),
            Check::new("etcd", || Ok(Some("2 of 2".to_owned()))),
            Check::asking("kms-providers", || async { Err("vault: asleep".to_owned()) }),
        ]
    }

    /// Whether it is healthy, and the text.
    type Answer = Option<(bool, String)>;

    async fn ask(path: &str, query: &str) -> Answer {
        let report = answer(&checks(), path, query).await?;
        Some((report.is_healthy, report.text))
    }

    fn is(is_healthy: bool, text: &str) -> Answer {
        Answer::from((is_healthy, text.to_owned()))
    }

    #[tokio::test]
    async fn a_failure_names_every_check_and_says_why() {
        let all = "[+]ping ok\n[+]etcd ok: 2 of 2\n[-]kms-providers failed: vault: asleep\n";
        assert_eq!(
            ask("/readyz", "").await,
            is(false, &format!("{all}readyz check failed\n"))
        );
        assert_eq!(
            ask("/healthz", "verbose").await,
            is(false, &format!("{all}healthz check failed\n"))
        );
    }

    #[tokio::test]
    async fn liveness_is_but_what_a_restart_could_mend() {
        assert_eq!(ask("/livez", "").await, is(true, "ok"));
        assert_eq!(
            ask("/livez", "verbose=1").await,
            is(true, "[+]ping ok\nlivez check passed\n")
        );
        assert_eq!(ask("/livez/etcd", "").await, None);
    }

    #[tokio::test]
    async fn what_is_alive_is_what_livez_says() {
        assert_eq!(alive(&checks()).await, Ok(()));
        let [ping, etcd, kms] = checks();
        let failing = "kms-providers: vault: asleep".to_owned();
        assert_eq!(alive(&[ping, etcd, kms.vital()]).await, Err(failing));
    }

    #[tokio::test]
    async fn a_check_can_be_left_out_and_one_that_is_not_there_is_named() {
        assert_eq!(ask("/readyz", "exclude=kms-providers").await, is(true, "ok"));
        assert_eq!(
            ask(
                "/readyz",
                "exclude=nose&exclude=kms%2Dproviders&verbose&exclude=ear&exclude=ear"
            )
            .await,
            is(
                true,
                "[+]ping ok\n[+]etcd ok: 2 of 2\n[+]kms-providers excluded: ok\n\
                 warn: some health checks cannot be excluded: no matches for \"ear\",\"nose\"\nreadyz check passed\n"
            )
        );
    }

    #[tokio::test]
    async fn each_check_has_a_path_of_its_own() {
        assert_eq!(ask("/readyz/ping", "").await, is(true, "ok"));
        assert_eq!(ask("/healthz/etcd", "").await, is(true, "ok: 2 of 2"));
        assert_eq!(
            ask("/readyz/kms-providers", "").await,
            is(false, "failed: vault: asleep\n")
        );
        for path in [
            "/readyz/nose",
            "/readyz/",
            "/readyz/ping/",
            "/ready",
            "/",
            "",
            "/metrics",
        ] {
            assert_eq!(ask(path, "").await, None, "{path}");
        }
    }
}
