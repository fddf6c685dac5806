//! Which values of an event to read: a graph of the dotted paths that some rule reads.
//!
//! A node stands for the prefix of a path that has been walked. An edge may consume several segments at
//! once, because a key may itself hold dots (`authorization.k8s.io/decision`): this tries every split
//! without trying anything twice.

use rustc_hash::FxHashMap;

use super::atoms::{FieldId, index};
use super::field::length_bit;
use crate::formula::ITSELF;

/// Index of a node.
pub(crate) type NodeId = u32;

/// The event itself.
pub(crate) const ROOT: NodeId = 0;

/// Values that the evaluator itself needs, to compute facets and to know which parts of the event are
/// missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hot {
    Level,
    Stage,
    Truncated,
    RequestObject,
    ResponseObject,
    Username,
    ImpersonatedUsername,
    SourceIp,
    Code,
    Decision,
}

const HOT: [(&str, Hot); 10] = [
    ("level", Hot::Level),
    ("stage", Hot::Stage),
    ("annotations.audit.k8s.io/truncated", Hot::Truncated),
    ("requestObject", Hot::RequestObject),
    ("responseObject", Hot::ResponseObject),
    ("user.username", Hot::Username),
    ("impersonatedUser.username", Hot::ImpersonatedUsername),
    ("sourceIPs", Hot::SourceIp),
    ("responseStatus.code", Hot::Code),
    ("annotations.authorization.k8s.io/decision", Hot::Decision),
];

/// The graph.
pub(crate) struct Paths {
    nodes: Vec<Node>,
    by_prefix: FxHashMap<Box<str>, NodeId>,
}

/// A place in an event.
#[derive(Default)]
pub(crate) struct Node {
    children: Edges,
    /// The fields whose values stand here.
    pub(crate) fields: Vec<FieldId>,
    /// The fields of which the text of whole values that stand here is kept.
    pub(crate) arrays: Vec<FieldId>,
    /// What the evaluator itself reads here.
    pub(crate) hot: Option<Hot>,
    /// A member of the event itself that events of the same client have in common, unlike its bodies.
    pub(crate) is_part: bool,
}

impl Node {
    /// Where a key leads; nowhere if no rule reads it.
    #[inline]
    pub(crate) fn child(&self, key: &str) -> Option<NodeId> {
        self.children.get(key)
    }

    /// Whether something below is read.
    pub(crate) fn has_children(&self) -> bool {
        self.children.lengths != 0
    }
}

/// Where keys lead.
#[derive(Default)]
struct Edges {
    /// Bit n is set if some key has n bytes; the last bit stands for all longer ones.
    lengths: u64,
    /// Keys up to [`FEW_EDGES`] in number.
    few: Vec<(Box<str>, NodeId)>,
    /// All keys, if there are more.
    many: FxHashMap<Box<str>, NodeId>,
}

/// Up to so many keys are compared one after the other.
const FEW_EDGES: usize = 6;

impl Edges {
    #[inline]
    fn get(&self, key: &str) -> Option<NodeId> {
        if self.lengths & length_bit(key) == 0 {
            return None;
        }
        if self.many.is_empty() {
            self.few.iter().find(|(known, _)| **known == *key).map(|(_, node)| *node)
        } else {
            self.many.get(key).copied()
        }
    }

    fn ends(&self) -> Vec<NodeId> {
        self.few.iter().map(|(_, node)| node).chain(self.many.values()).copied().collect()
    }

    fn insert(&mut self, key: &str, node: NodeId) {
        if self.get(key).is_some() {
            return;
        }
        self.lengths |= length_bit(key);
        if self.many.is_empty() && self.few.len() < FEW_EDGES {
            self.few.push((key.into(), node));
        } else {
            self.many.extend(self.few.drain(..));
            self.many.insert(key.into(), node);
        }
    }
}

impl Paths {
    /// A graph that reads only what the evaluator itself needs.
    pub(crate) fn new() -> Self {
        let mut paths = Self::of_member();
        for (path, hot) in HOT {
            let end = paths.add(path);
            paths.nodes[end as usize].hot = Some(hot);
        }
        paths
    }

    /// To be called once all fields are added.
    pub(crate) fn mark_parts(&mut self) {
        for place in self.nodes[ROOT as usize].children.ends() {
            let node = &mut self.nodes[place as usize];
            node.is_part = !matches!(node.hot, Some(Hot::RequestObject | Hot::ResponseObject));
        }
    }

    /// A graph that reads nothing yet, for members of arrays.
    pub(crate) fn of_member() -> Self {
        let by_prefix = std::iter::once((Box::from(""), ROOT)).collect();
        Self { nodes: vec![Node::default()], by_prefix }
    }

    /// Keeps the text of whole values at a path, for conditions on their members.
    pub(crate) fn add_array(&mut self, path: &str, field: FieldId) {
        let end = self.add(path);
        let arrays = &mut self.nodes[end as usize].arrays;
        if !arrays.contains(&field) {
            arrays.push(field);
        }
    }

    /// Reads the values at a path into a field.
    pub(crate) fn add_field(&mut self, path: &str, field: FieldId) {
        let end = self.add(path);
        let fields = &mut self.nodes[end as usize].fields;
        if !fields.contains(&field) {
            fields.push(field);
        }
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node of an id that an edge led to.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn add(&mut self, path: &str) -> NodeId {
        if path == ITSELF {
            return ROOT;
        }
        let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
        let mut walked = vec![(ROOT, 0)];
        for end in ends {
            let node = self.node_of_prefix(&path[..end]);
            for &(from, start) in &walked {
                let key = &path[start..end];
                self.nodes[from as usize].children.insert(key, node);
            }
            walked.push((node, end + 1));
        }
        walked.last().map_or(ROOT, |(node, _)| *node)
    }

    fn node_of_prefix(&mut self, prefix: &str) -> NodeId {
        if let Some(&node) = self.by_prefix.get(prefix) {
            return node;
        }
        let node = index(self.nodes.len());
        self.nodes.push(Node::default());
        self.by_prefix.insert(prefix.into(), node);
        node
    }
}
