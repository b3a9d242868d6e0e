//! Where in the document a field is, in kube-apiserver's notation. Formatted only when there is something to say.

use std::fmt;

/// A path such as `resources[0].providers[1].aescbc`, kept as a chain on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'p> {
    /// The document.
    Root,
    /// A field of an object.
    Field(&'p Path<'p>, &'p str),
    /// An element of a list.
    Element(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    pub(super) fn field(&'p self, name: &'p str) -> Self {
        Self::Field(self, name)
    }

    pub(super) fn element(&'p self, index: usize) -> Self {
        Self::Element(self, index)
    }

    /// A problem of what stands here.
    pub(super) fn says(&self, what: impl fmt::Display) -> String {
        match self {
            Self::Root => what.to_string(),
            _ => format!("{self}: {what}"),
        }
    }

    /// kube-apiserver's error for what has to be here and is not.
    pub(super) fn required(&self, detail: impl fmt::Display) -> String {
        self.says(format_args!("Required value: {detail}"))
    }

    /// kube-apiserver's error for what can't be here; `value` is printed as it is.
    pub(super) fn invalid(&self, value: impl fmt::Display, detail: impl fmt::Display) -> String {
        self.says(format_args!("Invalid value: {value}: {detail}"))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_kube_apiserver_writes_them() {
        let resources = Path::Root.field("resources");
        let entry = resources.element(3);
        let providers = entry.field("providers");
        let provider = providers.element(0);
        assert_eq!(
            provider.field("kms").field("name").to_string(),
            "resources[3].providers[0].kms.name"
        );
    }
}
