//! The command line: flags and environment to settings, and the exit code. Nobody else reads either.

mod common;
mod config;
mod confirm;
mod environment;
mod keyring;
mod log;
mod members;
mod output;
mod secrets_encrypt;
mod serve;
mod shipped;
mod snapshot;
mod sweep;
mod switch;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::app;
use crate::systemd::Manager;

/// A transparent gRPC proxy between kube-apiserver and etcd that encrypts values at rest.
///
/// etcd then holds, byte for byte, what kube-apiserver's own encryption at rest would have stored, so the proxy can be
/// put in or taken out without converting anything.
#[derive(Debug, Parser)]
#[command(
    version,
    long_version = version::LONG,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
    mut_subcommands(switch::with_switches)
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve kube-apiserver in front of etcd
    Serve(Box<serve::Flags>),
    /// Rewrite what etcd holds so that every value is encrypted as its rule says, and prove it
    #[command(after_long_help = sweep::AFTER_HELP)]
    Sweep(Box<sweep::Flags>),
    /// Rotate keys, switch encryption on or off, and tell how that stands: the words of k3s and RKE2
    #[command(subcommand, after_help = secrets_encrypt::AFTER_HELP)]
    SecretsEncrypt(secrets_encrypt::Verb),
    /// Back up the keyring that lies in etcd, restore it, or make one of an EncryptionConfiguration
    #[command(subcommand, after_help = keyring::AFTER_HELP)]
    Keyring(keyring::Verb),
    /// Look into a snapshot of etcd
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    /// Check an EncryptionConfiguration, or make a key for one
    #[command(subcommand)]
    Config(config::Verb),
    /// Tell which build this is
    Version(version::Flags),
    /// Print completions for a shell
    Completion(shipped::CompletionFlags),
    /// Write a man page for each verb; packages have them
    #[command(hide = true)]
    ManPages(shipped::ManFlags),
}

/// Runs the program. Exit codes: 0 after a clean stop, 1 if it could not start or failed, 2 for wrong usage; verbs may have
/// more of their own.
pub fn main() -> ExitCode {
    if let Err(fault) = environment::check(&Cli::command(), std::env::vars_os()) {
        report(&fault.into());
        return ExitCode::from(USAGE);
    }
    let args: Vec<_> = std::env::args_os().collect();
    let cli = Cli::try_parse_from(&args).unwrap_or_else(|error| {
        if let Some(name) = environment::source(&error, &args) {
            report(&anyhow::anyhow!("the variable {name} is not usable"));
        }
        error.exit()
    });
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.verb {
        Verb::Serve(flags) => {
            let _logging = flags.log.init_queued()?;
            let manager = Manager::find(|name| std::env::var_os(name))?;
            let settings = flags.settings(manager)?;
            app::serve(&settings)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Sweep(flags) => sweep::run(*flags),
        Verb::SecretsEncrypt(verb) => secrets_encrypt::run(verb),
        Verb::Keyring(verb) => keyring::run(verb),
        Verb::Snapshot(verb) => snapshot::run(verb),
        Verb::Config(verb) => config::run(verb),
        Verb::Version(flags) => version::run(&flags),
        Verb::Completion(flags) => shipped::completion(Cli::command(), &flags),
        Verb::ManPages(flags) => shipped::man_pages(Cli::command(), &flags),
    }
}

/// Wrong usage, as clap ends with it.
const USAGE: u8 = 2;

/// The exit code of a verb that is aimed at something else than what it is for; the same for all that change something.
const MISPLACED: u8 = 9;

/// Whether nothing was changed because of that.
fn is_misplaced(error: &app::Error) -> bool {
    matches!(error, app::Error::Misplaced(why) if !matches!(why, app::Misplaced::Etcd(_)))
}

/// An error belongs on standard error, where the log goes too.
#[expect(
    clippy::print_stderr,
    reason = "the last words of a program that did not start, logging or not"
)]
fn report(error: &anyhow::Error) {
    eprintln!("etcd-encryption-proxy: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_switch_is_as_it_is_by_default_or_on_or_as_it_says() {
        let flag = |verb: &str, name: &str, given: Option<&str>| {
            let line = ["proxy", verb, "--encryption-provider-config=c"]
                .into_iter()
                .chain(given);
            let matches = Cli::command().try_get_matches_from(line).unwrap();
            matches.subcommand_matches(verb).unwrap().get_flag(name)
        };
        assert!(!flag("sweep", "restart", None));
        assert!(flag("sweep", "restart", Some("--restart")));
        assert!(!flag("sweep", "restart", Some("--restart=false")));
        assert!(flag("serve", "member_record", None));
        assert!(flag("serve", "member_record", Some("--member-record")));
        assert!(!flag("serve", "member_record", Some("--member-record=false")));
        // Nested in what every verb has, and without a variable of the environment.
        assert!(flag("serve", "strict_permissions", Some("--strict-permissions")));
        let line = "proxy secrets-encrypt prepare --encryption-provider-config=c --wait=false";
        let matches = Cli::command().try_get_matches_from(line.split(' ')).unwrap();
        let prepare = matches.subcommand_matches("secrets-encrypt").unwrap();
        assert!(!prepare.subcommand_matches("prepare").unwrap().get_flag("wait"));
    }

    #[test]
    fn every_flag_can_be_given_by_environment_under_its_own_name() {
        let command = Cli::command();
        let below = |command: &clap::Command, verb| command.find_subcommand(verb).unwrap().clone();
        let inspect = below(&below(&command, "snapshot"), "inspect");
        let verbs = [below(&command, "serve"), below(&command, "sweep"), inspect];
        for flag in verbs
            .iter()
            .flat_map(clap::Command::get_arguments)
            .filter(|arg| arg.get_id() != "help" && !arg.is_positional())
        {
            let name = flag.get_long().unwrap();
            let variable = format!("ETCD_ENCRYPTION_PROXY_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(
                flag.get_env().and_then(|env| env.to_str()),
                Some(variable.as_str()),
                "--{name}"
            );
        }
    }
}
