//! A document as a tree of located nodes, made from a YAML parser's events. Knows no field and resolves no scalar.

use std::{borrow::Cow, collections::HashMap, ops::Deref, rc::Rc};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use zeroize::Zeroize;

use super::error::{Error, Location};

/// How deep flow collections, and likewise block collections, may nest. No field lies deeper than nine levels; merge
/// keys may add some.
const MAX_NESTING: usize = 64;

/// A part of the document. An alias is the very node that it names.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) at: Location,
    pub(super) content: Content<'a>,
}

impl Node<'_> {
    /// The characters of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Plain(text) | Content::Quoted(text) => Some(text),
            Content::List(_) | Content::Mapping(_) => None,
        }
    }
}

/// What a node holds.
pub(super) enum Content<'a> {
    /// Characters without quotes, which may mean something other than a string.
    Plain(Text<'a>),
    /// A string.
    Quoted(Text<'a>),
    List(Vec<Rc<Node<'a>>>),
    /// Keys and values as they stand, duplicates included.
    Mapping(Vec<(Rc<Node<'a>>, Rc<Node<'a>>)>),
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Any scalar may be a secret.
        f.write_str(match self {
            Self::Plain(_) | Self::Quoted(_) => "scalar",
            Self::List(_) => "list",
            Self::Mapping(_) => "mapping",
        })
    }
}

/// Characters of a scalar: part of the document where it has them as they are, else a copy that is wiped when dropped.
pub(super) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(copy) = &mut self.0 {
            copy.zeroize();
        }
    }
}

/// All nodes of a document, those within others before them.
#[derive(Default)]
pub(super) struct Tree<'a>(Vec<Rc<Node<'a>>>);

impl<'a> Tree<'a> {
    /// The document as a whole; `None` where the stream has no document, not even an empty one.
    pub(super) fn root(&self) -> Option<&Node<'a>> {
        self.0.last().map(|root| &**root)
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        // From the outside in, so that each node goes while its parts are still held here. Aliases can chain nodes to any
        // depth, and dropping them through each other would take the stack with them.
        while self.0.pop().is_some() {}
    }
}

/// The first document of the YAML stream `text`; what follows it is not looked at.
///
/// No error holds anything of the document but a single character that can't stand where it does.
pub(super) fn read(text: &str) -> Result<Tree<'_>, Error> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_NESTING,
        block_nesting_limit: MAX_NESTING,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.take(event, locate(&span.start))?;
    }
    Ok(builder.nodes)
}

fn not_yaml(error: &ScanError) -> Error {
    Error::single(locate(error.marker()), format!("not valid YAML: {}", error.kind()))
}

fn locate(marker: &Marker) -> Location {
    Location {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

/// A collection whose end has not come yet.
struct Open<'a> {
    at: Location,
    anchor: usize,
    children: Vec<Rc<Node<'a>>>,
}

impl Open<'_> {
    fn new(at: Location, anchor: usize) -> Self {
        Self {
            at,
            anchor,
            children: Vec::new(),
        }
    }
}

/// The fields are dropped in this order: see `Tree`.
#[derive(Default)]
struct Builder<'a> {
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Rc<Node<'a>>>,
    nodes: Tree<'a>,
}

impl<'a> Builder<'a> {
    fn take(&mut self, event: Event<'a>, at: Location) -> Result<(), Error> {
        let (content, at, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                // Nothing at all comes as `~`, which means the same.
                let text = Text(text);
                let string = is_string(tag.as_deref(), style, at)?;
                let content = if string {
                    Content::Quoted(text)
                } else {
                    Content::Plain(text)
                };
                (content, at, anchor)
            }
            Event::Alias(anchor) => {
                // A collection gets its anchor when it ends, so that a node never holds itself.
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(Error::single(at, "an anchor's value contains itself"));
                };
                let node = Rc::clone(node);
                self.place(node);
                return Ok(());
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", at)?;
                self.open.push(Open::new(at, anchor));
                return Ok(());
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", at)?;
                self.open.push(Open::new(at, anchor));
                return Ok(());
            }
            Event::SequenceEnd => match self.open.pop() {
                Some(Open { at, anchor, children }) => (Content::List(children), at, anchor),
                None => return Ok(()),
            },
            Event::MappingEnd => match self.open.pop() {
                Some(Open { at, anchor, children }) => (Content::Mapping(pairs(children)), at, anchor),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let node = Rc::new(Node { at, content });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.nodes.0.push(Rc::clone(&node));
        self.place(node);
        Ok(())
    }

    fn place(&mut self, node: Rc<Node<'a>>) {
        if let Some(parent) = self.open.last_mut() {
            parent.children.push(node);
        }
    }
}

/// The events of a mapping alternate between keys and values.
fn pairs(nodes: Vec<Rc<Node<'_>>>) -> Vec<(Rc<Node<'_>>, Rc<Node<'_>>)> {
    let mut pairs = Vec::with_capacity(nodes.len() / 2);
    let mut nodes = nodes.into_iter();
    while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
        pairs.push((key, value));
    }
    pairs
}

/// Whether a scalar is a string whatever its characters.
fn is_string(tag: Option<&Tag>, style: ScalarStyle, at: Location) -> Result<bool, Error> {
    match tag {
        None => Ok(style != ScalarStyle::Plain),
        Some(_) => check_tag(tag, "str", at).map(|()| true),
    }
}

/// A tag may say what a node is anyway. Any other could make it something that its text does not show.
fn check_tag(tag: Option<&Tag>, suffix: &str, at: Location) -> Result<(), Error> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.handle() == "tag:yaml.org,2002:" && tag.suffix() == suffix => Ok(()),
        Some(_) => Err(Error::single(at, format!("only the tag !!{suffix} can stand here"))),
    }
}
