//! The fields of Falco's `k8saudit` and `json` plugins, over the audit event's own paths.
//!
//! Where the plugins extract something else than their documentation says, the documentation is followed: source
//! addresses, the user a container runs as, capabilities, repositories of images with a port or a digest.

use crate::derived::{Derived, Shape, Step, SubjectKind};
use crate::formula::{Field, MAX_FIELD_BYTES, MAX_FIELD_SEGMENTS};

/// A field as a condition or an output names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// Such as `ka.verb`.
    pub(super) name: &'a str,
    /// What stands in brackets behind it.
    pub(super) argument: Option<String>,
}

/// Where the values of a field are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// What conditions test.
    pub(super) field: Field,
    /// The field is a list, which conditions compare as a whole.
    pub(super) list: bool,
    /// Every event has it.
    pub(super) always: bool,
}

/// What an argument in brackets means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    None,
    Required,
    /// The number of a member.
    Index,
}

/// Top-level members of an audit event that have no members of their own: the text at such a path is the path's
/// only value.
const SCALARS: [&str; 8] =
    ["level", "auditID", "stage", "requestURI", "verb", "userAgent", "kind", "apiVersion"];
/// Objects of an audit event whose members have none of their own.
const FLAT_OBJECTS: [&str; 2] = ["objectRef", "annotations"];

/// Resolves a field.
///
/// # Errors
/// Why there is no such field here.
pub(super) fn resolve(name: &Name<'_>) -> Result<Source, String> {
    let (source, argument) = match name.name {
        "jevt.value" => (pointer(name.argument.as_deref().unwrap_or_default())?, Argument::Required),
        "jevt.obj" => (derived("", Shape::Text), Argument::None),
        "jevt.rawtime" => (Source { always: true, ..derived("", Shape::Nanoseconds) }, Argument::None),
        "ka.uri.param" => {
            let parameter = name.argument.clone().unwrap_or_default();
            (derived("requestURI", Shape::QueryParameter(parameter.into())), Argument::Required)
        }
        "ka.req.volume.hostpath" => {
            let path = name.argument.clone().unwrap_or_default();
            (derived("requestObject/spec", Shape::Mounts(path.into())), Argument::Required)
        }
        "ka.req.binding.subject.has_name" => (derived("", Shape::Constant("N/A")), Argument::Required),
        other => match (scalar(other), list(other)) {
            (Some(source), _) => (source, Argument::None),
            (None, Some(list)) => return list.source(name),
            (None, None) => return Err(unknown(other)),
        },
    };
    check_argument(name, argument)?;
    Ok(source)
}

fn check_argument(name: &Name<'_>, expect: Argument) -> Result<(), String> {
    match (&name.argument, expect) {
        (None, Argument::Required) => Err(format!("field {} needs an argument in brackets", name.name)),
        (Some(_), Argument::None) => Err(format!("field {} takes no argument", name.name)),
        (Some(argument), _) if argument.len() > MAX_FIELD_BYTES => {
            Err(format!("the argument of {} is longer than {MAX_FIELD_BYTES} bytes", name.name))
        }
        _ => Ok(()),
    }
}

fn unknown(name: &str) -> String {
    let class = name.split('.').next().unwrap_or_default();
    match class {
        "ka" | "jevt" => format!("there is no field {name}"),
        _ => format!(
            "field {name} is not one of Kubernetes audit events (ka.*, jevt.value, jevt.obj, jevt.rawtime)"
        ),
    }
}

/// A JSON pointer such as `/requestObject/spec/tls`. Where it can only lead to one value without members, it is a path
/// by which rules are found.
fn pointer(pointer: &str) -> Result<Source, String> {
    let Some(rest) = pointer.strip_prefix('/') else {
        return Err(format!("jevt.value needs a JSON pointer such as [/verb], not {pointer:?}"));
    };
    let names: Vec<String> = rest.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
    if names.len() > MAX_FIELD_SEGMENTS {
        return Err(format!("the JSON pointer {pointer:?} has more than {MAX_FIELD_SEGMENTS} segments"));
    }
    let flat = match names.as_slice() {
        [member] => SCALARS.contains(&member.as_str()),
        [object, member] => FLAT_OBJECTS.contains(&object.as_str()) && !member.split('.').any(str::is_empty),
        _ => false,
    };
    if flat {
        return Ok(path(&names.join(".")));
    }
    let from = names.into_iter().map(|name| Step::Name(name.into())).collect();
    Ok(Source {
        field: Field::Derived(Box::new(Derived { from, shape: Shape::Text })),
        list: false,
        always: false,
    })
}

fn path(path: &str) -> Source {
    Source { field: Field::Path(path.into()), list: false, always: false }
}

/// What is made of the values at steps such as `requestObject/rules/*`.
fn derived(from: &str, shape: Shape) -> Source {
    Source {
        field: Field::Derived(Box::new(Derived { from: steps(from), shape })),
        list: false,
        always: false,
    }
}

fn steps(from: &str) -> Box<[Step]> {
    let names = from.split('/').filter(|name| !name.is_empty());
    names.map(|name| if name == "*" { Step::Each } else { Step::Name(name.into()) }).collect()
}

/// Fields with one value.
fn scalar(name: &str) -> Option<Source> {
    Some(match name {
        "ka.auditid" => path("auditID"),
        "ka.stage" => path("stage"),
        "ka.auth.decision" => path("annotations.authorization.k8s.io/decision"),
        "ka.auth.reason" => path("annotations.authorization.k8s.io/reason"),
        "ka.auth.openshift.decision" => path("annotations.authentication.openshift.io/decision"),
        "ka.auth.openshift.username" => path("annotations.authentication.openshift.io/username"),
        "ka.validations.admission.policy.failure" => {
            path("annotations.validation.policy.admission.k8s.io/validation_failure")
        }
        "ka.security.pod.violations" => path("annotations.pod-security.kubernetes.io/audit-violations"),
        "ka.user.name" => path("user.username"),
        "ka.impuser.name" => path("impersonatedUser.username"),
        "ka.verb" => path("verb"),
        "ka.uri" => path("requestURI"),
        "ka.target.name" | "ka.req.configmap.name" => path("objectRef.name"),
        "ka.target.namespace" => path("objectRef.namespace"),
        "ka.target.resource" => path("objectRef.resource"),
        "ka.target.subresource" => path("objectRef.subresource"),
        "ka.target.pod.name" => derived("", Shape::PodName),
        "ka.req.binding.role" => path("requestObject.roleRef.name"),
        "ka.req.configmap.obj" => derived("requestObject/data", Shape::Text),
        "ka.req.container.image" => derived("requestObject/spec/containers/0/image", Shape::Text),
        "ka.req.container.image.repository" => {
            derived("requestObject/spec/containers/0/image", Shape::Repository)
        }
        "ka.req.container.privileged" => derived("requestObject/spec/containers", Shape::SomePrivileged),
        "ka.req.pod.host_ipc" => path("requestObject.spec.hostIPC"),
        "ka.req.pod.host_network" | "ka.req.container.host_network" => path("requestObject.spec.hostNetwork"),
        "ka.req.pod.host_pid" => path("requestObject.spec.hostPID"),
        "ka.req.pod.run_as_user" => path("requestObject.spec.securityContext.runAsUser"),
        "ka.req.pod.run_as_group" => path("requestObject.spec.securityContext.runAsGroup"),
        "ka.req.pod.fs_group" => path("requestObject.spec.securityContext.fsGroup"),
        "ka.req.service.type" => path("requestObject.spec.type"),
        "ka.resp.name" => path("responseObject.metadata.name"),
        "ka.response.code" => path("responseStatus.code"),
        "ka.response.reason" => path("responseStatus.reason"),
        "ka.useragent" => path("userAgent"),
        "ka.cluster.name" => path("annotations.cluster_name"),
        _ => return None,
    })
}

/// A field with several values.
struct List {
    /// Where they stand. The first `*` is what an index chooses from.
    from: String,
    shape: Shape,
    indexed: bool,
}

impl List {
    fn new(from: &str, shape: Shape, indexed: bool) -> Self {
        Self { from: from.to_owned(), shape, indexed }
    }

    fn source(self, name: &Name<'_>) -> Result<Source, String> {
        check_argument(name, if self.indexed { Argument::Index } else { Argument::None })?;
        if let Some(argument) = &name.argument {
            let index: u32 = argument.parse().map_err(|_| {
                format!("the argument of {} must be the number of a member, not {argument:?}", name.name)
            })?;
            let from = self.from.replacen('*', &index.to_string(), 1);
            return Ok(Source { list: from.contains('*'), ..derived(&from, self.shape) });
        }
        // Any member of a path through arrays is a value, so plain texts need no document.
        let plain = self.shape == Shape::Text && !OBJECT_LISTS.contains(&self.from.as_str());
        let source = if plain {
            path(&self.from.replace("/*", "").replace('/', "."))
        } else {
            derived(&self.from, self.shape)
        };
        Ok(Source { list: true, ..source })
    }
}

/// Lists of objects, whose text is JSON.
const OBJECT_LISTS: [&str; 3] =
    ["requestObject/subjects/*", "requestObject/rules/*", "requestObject/spec/ports/*"];

fn list(name: &str) -> Option<List> {
    let text = |from: &str, indexed| List::new(from, Shape::Text, indexed);
    let subjects = |kind, with_namespace| {
        List::new("requestObject/subjects/*", Shape::Subject { kind, with_namespace }, false)
    };
    Some(match name {
        "ka.user.groups" => text("user/groups/*", false),
        "ka.sourceips" => text("sourceIPs/*", true),
        "ka.req.binding.subjects" => text("requestObject/subjects/*", false),
        "ka.req.binding.subjects.user_names" => subjects(SubjectKind::User, false),
        "ka.req.binding.subjects.group_names" => subjects(SubjectKind::Group, false),
        "ka.req.binding.subjects.serviceaccount_names" => subjects(SubjectKind::ServiceAccount, false),
        "ka.req.binding.subjects.serviceaccount_ns_names" => subjects(SubjectKind::ServiceAccount, true),
        "ka.req.role.rules" => text("requestObject/rules/*", false),
        "ka.req.role.rules.apiGroups" => text("requestObject/rules/*/apiGroups/*", true),
        "ka.req.role.rules.nonResourceURLs" => text("requestObject/rules/*/nonResourceURLs/*", true),
        "ka.req.role.rules.verbs" => text("requestObject/rules/*/verbs/*", true),
        "ka.req.role.rules.resources" => text("requestObject/rules/*/resources/*", true),
        "ka.req.pod.supplemental_groups" => {
            text("requestObject/spec/securityContext/supplementalGroups/*", false)
        }
        "ka.req.service.ports" => text("requestObject/spec/ports/*", true),
        "ka.req.pod.volumes.hostpath" => text("requestObject/spec/volumes/*/hostPath/path", true),
        "ka.req.pod.volumes.flexvolume_driver" => {
            text("requestObject/spec/volumes/*/flexVolume/driver", true)
        }
        "ka.req.pod.volumes.volume_type" => {
            List::new("requestObject/spec/volumes/*", Shape::VolumeKind, true)
        }
        _ => {
            let (containers, field) = name.strip_prefix("ka.req.pod.")?.split_once('.')?;
            return container(containers, field);
        }
    })
}

/// `containers.image`, `initContainers.args`, …
fn container(containers: &str, field: &str) -> Option<List> {
    if !matches!(containers, "containers" | "initContainers" | "ephemeralContainers") {
        return None;
    }
    let (below, shape) = match field {
        "name" => ("/name", Shape::Text),
        "image" => ("/image", Shape::Text),
        "image.repository" => ("/image", Shape::Repository),
        "args" => ("/args", Shape::Joined),
        "command" => ("/command", Shape::Joined),
        // Ephemeral containers cannot have ports.
        "host_port" if containers != "ephemeralContainers" => ("/ports/*", Shape::HostPort),
        "privileged" => ("/securityContext/privileged", Shape::Text),
        "allow_privilege_escalation" => ("/securityContext/allowPrivilegeEscalation", Shape::Text),
        "read_only_fs" => ("/securityContext/readOnlyRootFilesystem", Shape::Text),
        "run_as_user" => ("/securityContext/runAsUser", Shape::Text),
        "run_as_group" => ("/securityContext/runAsGroup", Shape::Text),
        "eff_run_as_user" => ("", Shape::RunsAs("runAsUser")),
        "eff_run_as_group" => ("", Shape::RunsAs("runAsGroup")),
        "proc_mount" => ("/securityContext/procMount", Shape::Text),
        "add_capabilities" => ("/securityContext/capabilities/add/*", Shape::Text),
        _ => return None,
    };
    Some(List::new(&format!("requestObject/spec/{containers}/*{below}"), shape, true))
}
