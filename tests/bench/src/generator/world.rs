//! The cluster that the load pretends to come from: its nodes, namespaces, workloads and people. Everything
//! has the cardinality of a cluster of some hundred nodes.

use crate::random::Random;

pub(crate) const NODES: usize = 120;
const NAMESPACES: usize = 60;
const WORKLOADS: usize = 400;
const PEOPLE: usize = 50;

/// What exists in the cluster.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) people: Vec<Person>,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) uid: String,
}

/// A deployment, its pods' service account and the hash in its replica set's name.
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) template_hash: String,
    pub(crate) image: String,
    /// Of the service account.
    pub(crate) uid: String,
    /// Where its pod runs.
    pub(crate) node: usize,
    pub(crate) pod_suffix: String,
    pub(crate) pod_uid: String,
    pub(crate) credential_id: String,
    pub(crate) user_agent: String,
}

pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) team: &'static str,
    pub(crate) address: String,
    pub(crate) user_agent: &'static str,
}

const TEAMS: [&str; 8] =
    ["payments", "checkout", "search", "platform", "identity", "logistics", "analytics", "mobile"];
const STAGES: [&str; 5] = ["prod", "staging", "dev", "qa", "sandbox"];
const PARTS: [&str; 20] = [
    "api",
    "worker",
    "gateway",
    "cache",
    "scheduler",
    "frontend",
    "backend",
    "importer",
    "exporter",
    "operator",
    "controller",
    "proxy",
    "consumer",
    "producer",
    "migrator",
    "indexer",
    "billing",
    "session",
    "webhook",
    "agent",
];
const FIRST_NAMES: [&str; 10] =
    ["anna", "ben", "chen", "dara", "elif", "femi", "grace", "hugo", "ines", "jonas"];
const LAST_NAMES: [&str; 10] =
    ["adler", "brandt", "costa", "diaz", "eriksen", "fischer", "gupta", "haddad", "ito", "jansen"];
const PEOPLE_AGENTS: [&str; 6] = [
    "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
    "kubectl/v1.33.4 (darwin/arm64) kubernetes/74cdb42",
    "Helm/3.18.4",
    "k9s/v0.50.9 (linux/amd64) kubernetes/$Format",
    "HashiCorp/1.0 Terraform/1.12.2",
    "Mozilla/5.0 (X11; Linux x86_64) Headlamp/0.35.0",
];

impl World {
    pub(crate) fn new(random: &mut Random) -> Self {
        let namespaces: Vec<String> = (0..NAMESPACES)
            .map(|n| match n {
                0 => "kube-system".to_owned(),
                1 => "default".to_owned(),
                2 => "monitoring".to_owned(),
                _ => format!("{}-{}-{}", TEAMS[n % TEAMS.len()], STAGES[n % STAGES.len()], n / 20),
            })
            .collect();
        let nodes = (0..NODES).map(|n| Node::new(n, random)).collect();
        let workloads = (0..WORKLOADS).map(|n| Workload::new(n, &namespaces, random)).collect();
        let people = (0..PEOPLE).map(|n| Person::new(n, random)).collect();
        Self { nodes, workloads, people }
    }
}

impl Node {
    fn new(n: usize, random: &mut Random) -> Self {
        let (subnet, host) = (n / 40, 10 + n % 40 * 5);
        Self {
            name: format!("ip-10-0-{subnet}-{host}.eu-central-1.compute.internal"),
            address: format!("10.0.{subnet}.{host}"),
            uid: random.uuid(),
        }
    }
}

impl Workload {
    fn new(n: usize, namespaces: &[String], random: &mut Random) -> Self {
        let name = format!("{}-{}", random.pick(&TEAMS), random.pick(&PARTS));
        Self {
            namespace: namespaces[n % namespaces.len()].clone(),
            template_hash: random.word(10),
            image: format!("registry.example.internal/{name}:v{}.{}.{}", n % 4, n % 31, random.below(90)),
            uid: random.uuid(),
            node: random.below(NODES),
            pod_suffix: random.word(5),
            pod_uid: random.uuid(),
            credential_id: random.uuid(),
            user_agent: match n % 3 {
                0 => format!("{name}/v0.0.0 (linux/amd64) kubernetes/$Format"),
                1 => format!("{name}/v0.0.0 (linux/amd64) kubernetes/$Format/leader-election"),
                _ => "Go-http-client/2.0".to_owned(),
            },
            name,
        }
    }

    pub(crate) fn pod(&self) -> String {
        format!("{}-{}-{}", self.name, self.template_hash, self.pod_suffix)
    }
}

impl Person {
    fn new(n: usize, random: &mut Random) -> Self {
        let (first, last) = (FIRST_NAMES[n % 10], LAST_NAMES[(n / 10 + n) % 10]);
        Self {
            name: format!("{first}.{last}@example.com"),
            team: *random.pick(&TEAMS),
            address: format!("192.168.{}.{}", n % 4, random.between(2, 250)),
            user_agent: *random.pick(&PEOPLE_AGENTS),
        }
    }
}
