//! Pods taken through their lives by [`plan`](crate::plan) alone.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::plan::{Action, Ending, Outcome, View, outcome, plan};
use crate::state::{Condemned, Containers, Exit, Fetch, Run, Stop, all_containers};

const T0: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(T0 + second).unwrap()
}

/// A pod, what is known of it, and a runtime that does at once what it is told.
struct Sim {
    pod: Pod,
    containers: Containers,
    sandbox: bool,
    volumes: bool,
    ending: Option<Ending>,
    now: Timestamp,
    log: Vec<String>,
}

impl Sim {
    fn new(spec: Value) -> Self {
        let pod = serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap();
        Self {
            pod,
            containers: Containers::new(),
            sandbox: false,
            volumes: false,
            ending: None,
            now: at(0),
            log: Vec::new(),
        }
    }

    /// Plans and acts until there is nothing to do now; answers when to look again.
    fn settle(&mut self) -> Option<Timestamp> {
        for _ in 0..100 {
            let view = View {
                pod: &self.pod,
                ending: self.ending,
                sandbox: self.sandbox,
                volumes: self.volumes,
                retry_at: None,
                containers: &self.containers,
            };
            let plan = plan(&view, self.now);
            if plan.actions.is_empty() || plan.actions == [Action::Remove] {
                self.log.extend(plan.actions.iter().map(|a| format!("{a:?}")));
                return plan.wake;
            }
            for action in plan.actions {
                self.act(action);
            }
        }
        panic!("never settles: {:?}", self.log);
    }

    fn act(&mut self, action: Action) {
        self.log.push(match &action {
            Action::Pull(n) => format!("pull {n}"),
            Action::Start(n) => format!("start {n}"),
            Action::RunHook(n, _) => format!("hook {n}"),
            Action::Terminate(n, _) => format!("term {n}"),
            Action::Kill(n) => format!("kill {n}"),
            other => format!("{other:?}"),
        });
        let now = self.now;
        match action {
            Action::CreateSandbox => self.sandbox = true,
            Action::SetUpVolumes => self.volumes = true,
            Action::ReleaseSandbox => self.sandbox = false,
            Action::Remove => {}
            Action::Pull(n) => {
                self.containers.entry(n).or_default().fetch = Fetch::Done;
            }
            Action::Start(n) => {
                let state = self.containers.entry(n).or_default();
                if let Run::Exited(exit) = std::mem::take(&mut state.run) {
                    state.previous = Some(exit);
                    state.restarts += 1;
                }
                state.run = Run::Running { id: "x".into(), pid: 1, started_at: now };
                state.retry_at = None;
                state.fetch = Fetch::Needed;
                (state.started, state.ready) = (true, true);
            }
            Action::RunHook(n, deadline) => {
                self.containers.entry(n).or_default().stop = Some(Stop::Hook { deadline })
            }
            Action::Terminate(n, kill_at) => {
                self.containers.entry(n).or_default().stop = Some(Stop::Term { kill_at });
            }
            Action::Kill(n) => self.exit(&n, 137),
        }
    }

    fn exit(&mut self, name: &str, code: i32) {
        let state = self.containers.get_mut(name).unwrap();
        let Run::Running { started_at, .. } = state.run else { panic!("{name} does not run") };
        let exit = Exit {
            id: "x".into(),
            code,
            signal: None,
            reason: "Error".into(),
            message: None,
            started_at: Some(started_at),
            finished_at: self.now,
        };
        state.ended(exit, self.now);
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn taken(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }
}

fn containers(names: &[&str]) -> Value {
    names.iter().map(|n| json!({ "name": n, "image": "i" })).collect()
}

#[test]
fn a_pod_starts() {
    let mut sim = Sim::new(json!({ "containers": containers(&["a", "b"]) }));
    assert_eq!(sim.settle(), None);
    assert_eq!(sim.taken(), "SetUpVolumes, CreateSandbox, pull a, pull b, start a, start b");
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    let mut init = containers(&["one", "side", "two"]);
    init[1]["restartPolicy"] = json!("Always");
    let mut sim = Sim::new(json!({ "initContainers": init, "containers": containers(&["main"]) }));
    sim.settle();
    assert_eq!(sim.taken(), "SetUpVolumes, CreateSandbox, pull one, pull main, start one");
    sim.exit("one", 1);
    sim.settle();
    assert_eq!(sim.taken(), "pull one, start one", "its first restart is immediate");
    sim.exit("one", 0);
    sim.settle();
    assert_eq!(sim.taken(), "pull side, start side, pull two, start two");
    sim.exit("two", 0);
    sim.settle();
    assert_eq!(sim.taken(), "start main");
    sim.exit("side", 3);
    sim.settle();
    assert_eq!(
        sim.taken(),
        "pull side, start side",
        "a sidecar is restarted beside the main containers; init ones are not"
    );
}

#[test]
fn restarts_back_off_and_a_long_run_clears_the_past() {
    let mut sim = Sim::new(json!({ "containers": containers(&["a"]) }));
    sim.settle();
    sim.exit("a", 1);
    sim.settle();
    let mut delays = Vec::new();
    for _ in 0..7 {
        sim.exit("a", 1);
        let wake = sim.settle().unwrap();
        delays.push(wake.duration_since(sim.now).as_secs());
        sim.now = wake;
        sim.settle();
    }
    assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    sim.pass(601);
    sim.exit("a", 1);
    assert_eq!(sim.settle().unwrap().duration_since(sim.now).as_secs(), 10);
    assert_eq!(sim.containers["a"].restarts, 8);
}

#[test]
fn the_image_is_settled_before_each_run_and_not_during_a_back_off() {
    let mut sim = Sim::new(json!({ "containers": containers(&["a"]) }));
    sim.settle();
    assert_eq!(sim.taken(), "SetUpVolumes, CreateSandbox, pull a, start a");
    sim.exit("a", 1);
    sim.settle();
    assert_eq!(sim.taken(), "pull a, start a");
    sim.exit("a", 1);
    let wake = sim.settle();
    assert_eq!(sim.taken(), "", "the registry is not asked while the container waits");
    sim.now = wake.unwrap();
    sim.settle();
    assert_eq!(sim.taken(), "pull a, start a");
}

#[test]
fn policies_decide_what_ends_a_pod() {
    for (policy, code, expected) in [
        ("Always", 0, Outcome::Open),
        ("OnFailure", 0, Outcome::Succeeded),
        ("OnFailure", 1, Outcome::Open),
        ("Never", 0, Outcome::Succeeded),
        ("Never", 1, Outcome::Failed),
    ] {
        let mut sim = Sim::new(json!({ "restartPolicy": policy, "containers": containers(&["a"]) }));
        sim.settle();
        sim.exit("a", code);
        assert_eq!(outcome(&sim.pod, &sim.containers), expected, "{policy} {code}");
    }
    let mut sim = Sim::new(json!({
        "restartPolicy": "Never", "initContainers": containers(&["i"]), "containers": containers(&["a"])
    }));
    sim.settle();
    sim.exit("i", 1);
    sim.taken();
    sim.settle();
    assert_eq!(
        (outcome(&sim.pod, &sim.containers), sim.taken().as_str()),
        (Outcome::Failed, "ReleaseSandbox")
    );
}

#[test]
fn a_deleted_pod_is_asked_then_killed() {
    let mut sim = Sim::new(json!({ "containers": containers(&["polite", "deaf"]) }));
    sim.settle();
    sim.taken();
    sim.ending = Some(Ending { deadline: at(30) });
    assert_eq!(sim.settle(), Some(at(30)));
    assert_eq!(sim.taken(), "term polite, term deaf");
    sim.exit("polite", 0);
    assert_eq!(sim.settle(), Some(at(30)));
    sim.now = at(30);
    sim.settle();
    assert_eq!(sim.taken(), "kill deaf, Remove");
}

#[test]
fn a_shortened_grace_period_counts() {
    let mut sim = Sim::new(json!({ "containers": containers(&["a"]) }));
    sim.settle();
    sim.ending = Some(Ending { deadline: at(30) });
    sim.settle();
    sim.taken();
    sim.ending = Some(Ending { deadline: at(1) });
    assert_eq!(sim.settle(), Some(at(1)));
    sim.pass(1);
    sim.settle();
    assert_eq!(sim.taken(), "kill a, Remove");
}

#[test]
fn the_hook_comes_before_the_signal_and_sidecars_end_last() {
    let mut side = containers(&["side"]);
    side[0]["restartPolicy"] = json!("Always");
    let mut main = containers(&["main"]);
    main[0]["lifecycle"] = json!({ "preStop": { "exec": { "command": ["x"] } } });
    let mut sim = Sim::new(json!({ "initContainers": side, "containers": main }));
    sim.settle();
    sim.taken();
    sim.ending = Some(Ending { deadline: at(30) });
    sim.settle();
    assert_eq!(sim.taken(), "hook main");
    sim.containers.get_mut("main").unwrap().stop = Some(Stop::Hook { deadline: sim.now });
    sim.settle();
    assert_eq!(sim.taken(), "term main");
    sim.exit("main", 0);
    sim.settle();
    assert_eq!(sim.taken(), "term side");
    sim.exit("side", 0);
    sim.settle();
    assert_eq!(sim.taken(), "Remove");
}

#[test]
fn a_condemned_container_ends_alone() {
    let mut sim =
        Sim::new(json!({ "containers": containers(&["a", "b"]), "terminationGracePeriodSeconds": 5 }));
    sim.settle();
    sim.taken();
    sim.containers.get_mut("a").unwrap().condemned =
        Some(Condemned { message: "x".into(), grace_seconds: None });
    assert_eq!(sim.settle(), Some(at(5)));
    sim.pass(5);
    sim.settle();
    assert_eq!(sim.taken(), "term a, kill a, pull a, start a");
}

#[test]
fn an_ephemeral_container_starts_beside_everything_and_never_again() {
    let mut sim = Sim::new(json!({ "initContainers": containers(&["i"]), "containers": containers(&["a"]) }));
    sim.settle();
    sim.taken();
    let mut spec = sim.pod.spec.take().unwrap();
    spec.ephemeral_containers = serde_json::from_value(containers(&["look"])).unwrap();
    sim.pod.spec = Some(spec);
    sim.settle();
    assert_eq!(sim.taken(), "pull look, start look", "it does not wait for init containers");
    sim.exit("look", 1);
    sim.exit("i", 0);
    sim.settle();
    assert_eq!(sim.taken(), "start a");
    sim.pass(3600);
    sim.settle();
    assert_eq!(sim.taken(), "");
}

#[test]
fn an_ephemeral_container_holds_no_pod_back_and_ends_with_it() {
    let mut sim = Sim::new(json!({
        "restartPolicy": "Never", "containers": containers(&["a"]), "ephemeralContainers": containers(&["look"])
    }));
    sim.settle();
    assert_eq!(sim.taken(), "SetUpVolumes, CreateSandbox, pull look, pull a, start look, start a");
    sim.exit("a", 0);
    assert_eq!(outcome(&sim.pod, &sim.containers), Outcome::Succeeded);
    sim.settle();
    assert_eq!(sim.taken(), "term look");
    sim.exit("look", 143);
    sim.settle();
    assert_eq!(sim.taken(), "ReleaseSandbox");
}

/// Whatever happens, planning settles, nothing is started twice, and an ending pod starts nothing.
#[test]
fn random_lives() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut roll = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for _ in 0..300 {
        let policy = ["Always", "OnFailure", "Never"][roll(3) as usize];
        let mut init = containers(&["i", "s"]);
        init[1]["restartPolicy"] = json!("Always");
        let mut sim = Sim::new(json!({
            "restartPolicy": policy, "initContainers": init, "containers": containers(&["a", "b"])
        }));
        for _ in 0..40 {
            let before = sim.log.len();
            sim.settle();
            if sim.ending.is_some() {
                assert!(!sim.log[before..].iter().any(|l| l.starts_with("start")), "{:?}", sim.log);
            }
            let names: Vec<String> = all_containers(&sim.pod).map(|c| c.name.clone()).collect();
            let name = &names[roll(4) as usize];
            match roll(4) {
                0 | 1 if sim.containers.get(name).is_some_and(|c| c.is_running()) => {
                    sim.exit(name, roll(2) as i32)
                }
                2 => sim.pass(roll(400) as i64),
                3 if roll(20) == 0 => {
                    sim.ending = Some(Ending { deadline: sim.now + SignedDuration::from_secs(9) })
                }
                _ => {}
            }
        }
        sim.ending.get_or_insert(Ending { deadline: sim.now });
        sim.pass(3600);
        sim.settle();
        assert!(sim.containers.values().all(|c| !c.is_running()));
        assert_eq!(sim.log.last().map(String::as_str), Some("Remove"));
    }
}
