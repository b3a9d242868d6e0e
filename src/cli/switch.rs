//! Flags that are on or off.

use clap::builder::{ArgAction, StyledStr};
use clap::{Arg, Command};

/// What a switch takes, in the help and as what marks it: a `bool` with `value_name = SWITCH`.
pub(super) const SWITCH: &str = "BOOL";

/// Has every switch of `command` and its verbs take a value as those of kube-apiserver and etcd do: `--flag` is
/// `--flag=true`, and `--flag=false` is there for what is on by default, or by environment.
pub(super) fn with_switches(command: Command) -> Command {
    environment(command.mut_args(switch)).mut_subcommands(with_switches)
}

/// Has the help of `command` say once by which variables its flags can be given, and not of each flag.
fn environment(command: Command) -> Command {
    let names = |arg: &Arg| Some((arg.get_long()?.to_owned(), arg.get_env()?.to_str()?.to_owned()));
    let Some((flag, variable)) = command.get_arguments().find_map(names) else {
        return command;
    };
    let without = command.get_arguments().filter(|arg| arg.get_env().is_none());
    let without: Vec<_> = without
        .filter_map(Arg::get_long)
        .filter(|long| *long != "help")
        .collect();
    let without: Vec<_> = without.iter().map(|long| format!("--{long}")).collect();
    let but = if without.is_empty() {
        String::new()
    } else {
        format!(", but for {}", without.join(", "))
    };
    let text = format!("Environment: each flag has a variable, --{flag} is {variable}{but}. A flag goes before it.");
    let below = |own: Option<&StyledStr>| match own {
        None => text.clone(),
        Some(own) => format!("{own}\n\n{text}"),
    };
    let long = command.get_after_long_help().map(|own| below(Some(own)));
    let short = below(command.get_after_help());
    let command = command.mut_args(|arg| arg.hide_env(true)).after_help(short);
    match long {
        None => command,
        Some(long) => command.after_long_help(long),
    }
}

fn switch(arg: Arg) -> Arg {
    if arg.get_value_names().is_none_or(|names| names != [SWITCH]) {
        return arg;
    }
    let is_on_by_default = !arg.get_default_values().is_empty();
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(if is_on_by_default { "true" } else { "false" })
}
