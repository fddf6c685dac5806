//! Who sends a request: the user as the API server writes it, the client program and the address.

use serde_json::{Value, json};

use super::world::{Workload, World};
use crate::random::Random;

/// One authenticated (or rejected) client.
pub(crate) struct Caller {
    /// `user` of the event without `extra`.
    pub(crate) user: Value,
    /// `user.extra`, which newer API servers add for service accounts and nodes.
    pub(crate) extra: Option<Value>,
    pub(crate) user_agent: String,
    pub(crate) address: String,
    /// Why RBAC lets them, as `authorization.k8s.io/reason` says; empty where another authorizer decides.
    pub(crate) role: String,
    /// The workload they belong to, as an index.
    pub(crate) workload: Option<usize>,
    /// The node they are, as an index.
    pub(crate) node: Option<usize>,
}

impl Caller {
    /// Draws one of the kind that the letter names in the profile.
    pub(crate) fn draw(kind: u8, world: &World, random: &mut Random) -> Self {
        match kind {
            b'c' => Self::control_plane(random),
            b'n' => Self::node(world, random),
            b's' => Self::service_account(world, random),
            b'p' => Self::person(world, random),
            b'a' => Self::anonymous(random),
            _ => Self::unauthenticated(random),
        }
    }

    /// The name under which authorization knows them.
    pub(crate) fn username(&self) -> &str {
        self.user["username"].as_str().unwrap_or_default()
    }

    fn control_plane(random: &mut Random) -> Self {
        const CONTROLLERS: [&str; 8] = [
            "replicaset-controller",
            "deployment-controller",
            "endpointslice-controller",
            "job-controller",
            "generic-garbage-collector",
            "namespace-controller",
            "resourcequota-controller",
            "service-account-controller",
        ];
        const AGENT: &str = "kube-controller-manager/v1.34.1 (linux/amd64) kubernetes/93248f9";
        let component = *random.pick(&["kube-controller-manager", "kube-scheduler", "apiserver"]);
        let (user, user_agent, role) = match component {
            "kube-controller-manager" if random.chance(75) => {
                let name = *random.pick(&CONTROLLERS);
                let user = service_account_user("kube-system", name, None);
                let role = format!(
                    "ClusterRoleBinding \"system:controller:{name}\" of ClusterRole \"system:controller:{name}\" to \
                     ServiceAccount \"{name}/kube-system\""
                );
                (user, format!("{AGENT}/system:serviceaccount:kube-system:{name}"), role)
            }
            "apiserver" => {
                let user = json!({"username": "system:apiserver", "uid": "5b2ad6e4-7c12-4f0b-9f23-3f1c6b8a0d11",
                    "groups": ["system:authenticated", "system:masters"]});
                (user, "kube-apiserver/v1.34.1 (linux/amd64) kubernetes/93248f9".to_owned(), String::new())
            }
            _ => {
                let name = format!("system:{component}");
                let role =
                    format!("ClusterRoleBinding \"{name}\" of ClusterRole \"{name}\" to User \"{name}\"");
                let agent = format!("{component}/v1.34.1 (linux/amd64) kubernetes/93248f9/leader-election");
                (json!({"username": name, "groups": ["system:authenticated"]}), agent, role)
            }
        };
        let address = format!("10.0.0.{}", random.between(4, 6));
        Self { user, extra: None, user_agent, address, role, workload: None, node: None }
    }

    fn node(world: &World, random: &mut Random) -> Self {
        let index = random.below(world.nodes.len());
        let node = &world.nodes[index];
        let user = json!({"username": format!("system:node:{}", node.name),
            "groups": ["system:nodes", "system:authenticated"]});
        Self {
            user,
            extra: Some(credential(&blake3::hash(node.uid.as_bytes()).to_hex())),
            user_agent: "kubelet/v1.34.1 (linux/amd64) kubernetes/93248f9".to_owned(),
            address: node.address.clone(),
            role: String::new(),
            workload: None,
            node: Some(index),
        }
    }

    fn service_account(world: &World, random: &mut Random) -> Self {
        let index = random.below(world.workloads.len());
        let workload = &world.workloads[index];
        let (namespace, name) = (&workload.namespace, &workload.name);
        let role = if index.is_multiple_of(2) {
            format!(
                "RoleBinding \"{name}/{namespace}\" of Role \"{name}\" to ServiceAccount \"{name}/{namespace}\""
            )
        } else {
            format!(
                "ClusterRoleBinding \"{name}\" of ClusterRole \"{name}\" to ServiceAccount \"{name}/{namespace}\""
            )
        };
        Self {
            user: service_account_user(namespace, name, Some(&workload.uid)),
            extra: Some(pod_identity(workload, world)),
            user_agent: workload.user_agent.clone(),
            address: format!("10.244.{}.{}", workload.node, 2 + index % 250),
            role,
            workload: Some(index),
            node: None,
        }
    }

    fn person(world: &World, random: &mut Random) -> Self {
        let person = random.pick(&world.people);
        Self {
            user: json!({"username": person.name, "groups": [person.team, "system:authenticated"]}),
            extra: None,
            user_agent: person.user_agent.to_owned(),
            address: person.address.clone(),
            role: format!(
                "ClusterRoleBinding \"{0}-edit\" of ClusterRole \"edit\" to Group \"{0}\"",
                person.team
            ),
            workload: None,
            node: None,
        }
    }

    fn anonymous(random: &mut Random) -> Self {
        let user = json!({"username": "system:anonymous", "groups": ["system:unauthenticated"]});
        let role = "ClusterRoleBinding \"system:public-info-viewer\" of ClusterRole \"system:public-info-viewer\" to \
                    Group \"system:unauthenticated\"";
        Self { role: role.to_owned(), ..Self::outsider(user, random) }
    }

    /// Rejected before anybody knew who they are: the event has an empty user.
    fn unauthenticated(random: &mut Random) -> Self {
        Self::outsider(json!({}), random)
    }

    fn outsider(user: Value, random: &mut Random) -> Self {
        const AGENTS: [&str; 4] =
            ["curl/8.14.1", "python-requests/2.32.4", "kube-probe/1.34", "Go-http-client/2.0"];
        let address = format!("10.0.{}.{}", random.below(3), random.between(2, 30));
        let user_agent = (*random.pick(&AGENTS)).to_owned();
        Self { user, extra: None, user_agent, address, role: String::new(), workload: None, node: None }
    }
}

fn service_account_user(namespace: &str, name: &str, uid: Option<&str>) -> Value {
    let mut user = json!({
        "username": format!("system:serviceaccount:{namespace}:{name}"),
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
    });
    if let Some(uid) = uid {
        user["uid"] = json!(uid);
    }
    user
}

fn credential(id: &str) -> Value {
    json!({"authentication.kubernetes.io/credential-id": [format!("X509SHA256={id}")]})
}

fn pod_identity(workload: &Workload, world: &World) -> Value {
    let node = &world.nodes[workload.node];
    json!({
        "authentication.kubernetes.io/credential-id": [format!("JTI={}", workload.credential_id)],
        "authentication.kubernetes.io/node-name": [node.name],
        "authentication.kubernetes.io/node-uid": [node.uid],
        "authentication.kubernetes.io/pod-name": [workload.pod()],
        "authentication.kubernetes.io/pod-uid": [workload.pod_uid],
    })
}
