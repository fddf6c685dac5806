//! What the path of a container's log says of where it comes from. The kubelet and the runtime write these names, not
//! the container, so they are trusted.
//!
//! ```text
//! /var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log
//! /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log        a symbolic link to the one above
//! /var/lib/docker/containers/ID/ID-json.log
//! ```
//! Neither namespaces nor pods nor containers can have `_` in their names.

use std::path::Path;

use crate::decode::logs::{Fact, Field};

/// Hexadecimal digits of a container's id.
const ID_DIGITS: usize = 64;

/// Who wrote a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Of the pod.
    pub namespace: Option<String>,
    /// The pod's name.
    pub pod: Option<String>,
    /// The pod's uid; of a static pod, the hash of its manifest.
    pub pod_uid: Option<String>,
    /// The container's name within the pod.
    pub name: Option<String>,
    /// The runtime's id of it.
    pub id: Option<String>,
}

impl Container {
    /// What these paths say together: a file's own, and those that it is a link to.
    pub fn of_paths<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut known = Self::default();
        for path in paths {
            let Self { namespace, pod, pod_uid, name, id } = Self::of_path(path).unwrap_or_default();
            known.namespace = known.namespace.or(namespace);
            known.pod = known.pod.or(pod);
            known.pod_uid = known.pod_uid.or(pod_uid);
            known.name = known.name.or(name);
            known.id = known.id.or(id);
        }
        known
    }

    fn of_path(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let parent = path.parent()?.file_name()?.to_str()?;
        Self::of_docker(parent, file)
            .or_else(|| Self::of_link(file))
            .or_else(|| Self::of_pod(path.parent()?.parent()?.file_name()?.to_str()?, parent, file))
    }

    fn of_docker(parent: &str, file: &str) -> Option<Self> {
        let id = file.strip_suffix("-json.log").filter(|id| *id == parent && is_id(id))?;
        Some(Self { id: Some(id.to_owned()), ..Self::default() })
    }

    fn of_link(file: &str) -> Option<Self> {
        let (pod, rest) = file.strip_suffix(".log")?.split_once('_')?;
        let (namespace, rest) = rest.split_once('_')?;
        let (name, id) = rest.rsplit_once('-').filter(|(_, id)| is_id(id))?;
        let [pod, namespace, name, id] = [pod, namespace, name, id].map(|part| Some(part.to_owned()));
        Some(Self { namespace, pod, pod_uid: None, name, id })
    }

    fn of_pod(directory: &str, container: &str, file: &str) -> Option<Self> {
        // `N.log`, or `N.log.TIME` once it is rotated
        let (restarts, rest) = file.split_once('.')?;
        let is_log = rest == "log" || rest.starts_with("log.");
        (is_log && restarts.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
        let (namespace, rest) = directory.split_once('_')?;
        let (pod, uid) = rest.split_once('_')?;
        let [namespace, pod, pod_uid, name] =
            [namespace, pod, uid, container].map(|part| Some(part.to_owned()));
        Some(Self { namespace, pod, pod_uid, name, id: None })
    }

    /// As a log record's own knowledge.
    pub(super) fn facts(&self) -> impl Iterator<Item = (Field, Fact<'_>)> {
        [
            (Field::OrchestratorNamespace, &self.namespace),
            (Field::OrchestratorResourceName, &self.pod),
            (Field::OrchestratorResourceId, &self.pod_uid),
            (Field::ContainerName, &self.name),
            (Field::ContainerId, &self.id),
        ]
        .into_iter()
        .filter_map(|(field, value)| Some((field, Fact::from(value.as_deref()?))))
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_which_container_wrote_a_log() {
        let id = "0123456789abcdef".repeat(4);
        for (path, expect) in [
            (
                "/var/log/pods/shop_web-7d4b9_6f1c-22/nginx/0.log",
                ["shop", "web-7d4b9", "6f1c-22", "nginx", ""],
            ),
            ("/var/log/pods/a_b_c/d/12.log.20260131-081500", ["a", "b", "c", "d", ""]),
            (
                format!("/var/log/containers/web-7_shop_my-app-{id}.log").as_str(),
                ["shop", "web-7", "", "my-app", &id],
            ),
            (format!("/var/lib/docker/containers/{id}/{id}-json.log").as_str(), ["", "", "", "", &id]),
            ("/var/log/nginx/access.log", [""; 5]),
            ("/var/log/containers/web_shop_app-1234.log", [""; 5]),
            ("/var/log/pods/nothing/app/0.log", [""; 5]),
            ("/", [""; 5]),
        ] {
            let read = Container::of_paths([Path::new(path)]);
            let parts = [&read.namespace, &read.pod, &read.pod_uid, &read.name, &read.id];
            assert_eq!(parts.map(|part| part.as_deref().unwrap_or_default()), expect, "{path}");
        }
        let link = format!("/var/log/containers/web-7_shop_app-{id}.log");
        let both = Container::of_paths([Path::new(&link), Path::new("/var/log/pods/x_y_uid/z/0.log")]);
        assert_eq!((both.pod.as_deref(), both.pod_uid.as_deref()), (Some("web-7"), Some("uid")));
    }
}
