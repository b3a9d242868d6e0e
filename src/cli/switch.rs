//! Flags that are on or off.

use clap::builder::ArgAction;
use clap::{Arg, Command};

/// What a switch takes, in the help and as what marks it: a `bool` with `value_name = SWITCH`.
pub(super) const SWITCH: &str = "BOOL";

/// Has every switch of `command` and its verbs take a value as those of kube-apiserver and etcd do: `--flag` is
/// `--flag=true`, and `--flag=false` is there for what is on by default, or by environment.
pub(super) fn with_switches(command: Command) -> Command {
    command.mut_args(switch).mut_subcommands(with_switches)
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
