//! The engine over a machine in memory: what `up` and `down` promise for every
//! lab, and what is left when a step fails.

mod common;

use std::collections::BTreeMap;

use common::{file, lab_of};
use ovsns::engine::state::State;
use ovsns::engine::{Engine, EngineError};
use ovsns::kernel::fake::{FakeMachine, Memory};
use ovsns::model::names::LabName;
use ovsns::model::topology::{Backend, Lab};
use ovsns::switch::Switch;
use ovsns::switch::fake::FakeSwitch;
use proptest::prelude::*;
use tempfile::TempDir;

/// A machine, the engine that works on it, and where that remembers.
struct Bench {
    machine: FakeMachine,
    engine: Engine,
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let machine = FakeMachine::default();
        let switch: Box<dyn Switch> = Box::new(FakeSwitch::new(&machine));
        let directory = tempfile::tempdir().expect("a directory");
        let engine = Engine::with(
            Box::new(machine.clone()),
            BTreeMap::from([(Backend::Linux, switch)]),
            State::at(&directory.path().join("state")),
            "test",
        );
        Self { machine, engine, directory }
    }

    async fn up(&mut self, lab: &Lab) -> Result<usize, EngineError> {
        Ok(self.engine.up(lab, &mut |_, _| ()).await?.plan.len())
    }

    async fn down(&mut self, lab: &LabName) -> Result<usize, EngineError> {
        Ok(self.engine.down(lab, &mut |_, _| ()).await?.len())
    }

    /// What is there, without what only counts.
    fn there(&self) -> Memory {
        Memory { performed: 0, fails_at: None, ..self.machine.memory().clone() }
    }

    fn performed(&self) -> usize {
        self.machine.memory().performed
    }

    fn fail_at(&self, step: usize) {
        let mut memory = self.machine.memory();
        memory.fails_at = Some(memory.performed + step);
    }

    fn state_is_empty(&self) -> bool {
        // The directory itself was somebody's choice, and stays.
        let state = self.directory.path().join("state");
        std::fs::read_dir(state).map_or(true, |mut entries| entries.next().is_none())
    }
}

/// A lab on the only backend that there is.
fn lab() -> impl Strategy<Value = Lab> {
    file().prop_filter_map("no lab", |file| {
        let mut lab = lab_of(&file)?;
        lab.switches.values_mut().for_each(|switch| switch.backend = None);
        Some(lab)
    })
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_second_up_does_nothing_and_down_leaves_nothing(lab in lab()) {
        run(async {
            let mut bench = Bench::new();
            bench.up(&lab).await.expect("it can be made");
            let (there, performed) = (bench.there(), bench.performed());
            assert_eq!(bench.up(&lab).await.expect("it is there"), 0);
            assert_eq!(bench.performed(), performed);
            assert_eq!(bench.there(), there);
            bench.down(&lab.name).await.expect("it can be removed");
            assert_eq!(bench.there(), Memory::default());
            assert!(bench.state_is_empty(), "nothing is remembered of a lab that is gone");
        });
    }

    #[test]
    fn a_changed_lab_is_as_if_it_had_been_made_so(before in lab(), after in lab()) {
        run(async {
            let (mut changed, mut made) = (Bench::new(), Bench::new());
            changed.up(&before).await.expect("it can be made");
            changed.up(&after).await.expect("it can be changed");
            made.up(&after).await.expect("it can be made");
            let (mut changed, mut made) = (changed.there(), made.there());
            // A parameter that the new lab does not name stays as it was.
            for node in changed.host.nodes.values_mut().chain(made.host.nodes.values_mut()) {
                node.sysctls.clear();
            }
            assert_eq!(changed, made);
        });
    }

    #[test]
    fn a_failed_first_up_leaves_nothing(lab in lab(), at in any::<prop::sample::Index>()) {
        run(async {
            let steps = {
                let mut bench = Bench::new();
                bench.up(&lab).await.expect("it can be made");
                bench.performed()
            };
            if steps == 0 {
                return;
            }
            let mut bench = Bench::new();
            bench.fail_at(at.index(steps));
            let error = bench.up(&lab).await.expect_err("a step failed");
            assert!(matches!(error, EngineError::TakenBack { .. }), "{error:?}");
            assert_eq!(bench.there(), Memory::default());
            assert!(bench.state_is_empty());
        });
    }

    #[test]
    fn a_failed_change_is_taken_back(
        before in lab(), after in lab(), at in any::<prop::sample::Index>(),
    ) {
        run(async {
            let steps = {
                let mut bench = Bench::new();
                bench.up(&before).await.expect("it can be made");
                let first = bench.performed();
                bench.up(&after).await.expect("it can be changed");
                bench.performed() - first
            };
            if steps == 0 {
                return;
            }
            let mut bench = Bench::new();
            bench.up(&before).await.expect("it can be made");
            let there = bench.there();
            bench.fail_at(at.index(steps));
            match bench.up(&after).await.expect_err("a step failed") {
                EngineError::TakenBack { .. } => {
                    let (mut now, mut then) = (bench.there(), there);
                    for node in now.host.nodes.values_mut().chain(then.host.nodes.values_mut()) {
                        node.sysctls.clear();
                    }
                    assert_eq!(now, then);
                }
                // What ran in a node that is gone cannot be brought back, so
                // nodes go last, and it is told which are gone.
                EngineError::Left { left, .. } => {
                    assert!(left.iter().all(|line| line.starts_with("- node ")), "{left:?}");
                }
                other => panic!("{other:?}"),
            }
            // Either way the next one gets there.
            bench.up(&after).await.expect("it can be changed");
            assert_eq!(bench.up(&after).await.expect("it is there"), 0);
        });
    }
}

fn two_nodes() -> Lab {
    let text = include_str!("../examples/two-nodes.yaml");
    ovsns::model::file::read(text.as_bytes(), "two-nodes.yaml", None).expect("a good file")
}

#[tokio::test]
async fn a_lab_that_is_held_says_who_holds_it() {
    let mut bench = Bench::new();
    let lab = two_nodes();
    let state = State::at(&bench.directory.path().join("state"));
    let held = state.lock(&lab.name, "another up").expect("nobody has it");
    let refused = bench.up(&lab).await.expect_err("it is held");
    assert_eq!(
        refused.to_string(),
        format!(
            "lab `two-nodes` is being changed by `another up` (process {})",
            std::process::id()
        )
    );
    assert_eq!(bench.there(), Memory::default());
    drop(held);
    bench.up(&lab).await.expect("it is free");
}

#[tokio::test]
async fn what_others_change_shows_as_drift_and_is_mended() {
    let mut bench = Bench::new();
    let lab = two_nodes();
    bench.up(&lab).await.expect("it can be made");
    let there = bench.there();
    {
        let mut memory = bench.machine.memory();
        for node in memory.host.nodes.values_mut() {
            node.addresses.clear();
            node.devices.values_mut().for_each(|device| device.up = false);
        }
        memory.fabric.switches.values_mut().for_each(|switch| switch.ports.clear());
    }
    let status = bench.engine.status(&lab.name).await.expect("it is there");
    insta::assert_snapshot!(status.drift.join("\n"));
    bench.up(&lab).await.expect("it can be mended");
    assert_eq!(bench.there(), there);
}

#[tokio::test]
async fn somebody_who_works_against_us_is_told_of() {
    let mut bench = Bench::new();
    let lab = two_nodes();
    bench.up(&lab).await.expect("it can be made");
    // A cut-off change is told of until the next one.
    let state = State::at(&bench.directory.path().join("state"));
    let held = state.lock(&lab.name, "ovsns up").expect("nobody has it");
    held.begin(&ovsns::plan::Plan::nothing(&lab.name)).expect("it can be written");
    drop(held);
    let status = bench.engine.status(&lab.name).await.expect("it is there");
    assert_eq!(status.cut_off.as_deref(), Some("ovsns up"));
    bench.up(&lab).await.expect("nothing to do");
    let status = bench.engine.status(&lab.name).await.expect("it is there");
    assert_eq!(status.cut_off, None);
}
