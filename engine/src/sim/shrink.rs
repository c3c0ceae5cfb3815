//! The shortest plan that still fails: delta debugging (Zeller and Hildebrandt, "Simplifying and
//! Isolating Failure-Inducing Input", IEEE TSE 2002) of the faults, then of the operations.

use super::judge::Wrong;
use super::plan::Plan;

/// A plan that was shortened.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is left: nothing more can be taken away alone, unless `runs_max` ended the search.
    pub plan: Plan,
    /// Runs that it took.
    pub runs: u32,
}

/// Shortens a plan that fails with `wrong`, as long as what is left fails with it too; `fails` runs a
/// plan and says how it fails.
pub fn shrink(
    plan: &Plan,
    wrong: Wrong,
    runs_max: u32,
    mut fails: impl FnMut(&Plan) -> Option<Wrong>,
) -> Shrunk {
    let mut plan = plan.clone();
    let mut runs = 0;
    let mut still = |plan: &Plan| {
        let left = runs < runs_max;
        runs += u32::from(left);
        left.then(|| fails(plan) == Some(wrong))
    };
    // With fewer operations, fewer faults may do.
    loop {
        let before = (plan.faults.len(), plan.ops.len());
        let (faults, ops) = (plan.faults.clone(), plan.ops.clone());
        plan.faults = minimal(faults, |faults| still(&Plan { faults: faults.to_vec(), ..plan.clone() }));
        plan.ops = minimal(ops, |ops| still(&Plan { ops: ops.to_vec(), ..plan.clone() }));
        if (plan.faults.len(), plan.ops.len()) == before {
            break;
        }
    }
    Shrunk { plan, runs }
}

/// Takes away pieces of `items`, large ones first, as long as `still` holds of the rest. Ends early when
/// that says nothing any more.
fn minimal<T: Clone>(mut items: Vec<T>, mut still: impl FnMut(&[T]) -> Option<bool>) -> Vec<T> {
    let mut piece = items.len();
    while piece > 0 {
        let mut at = 0;
        while at < items.len() {
            let end = (at + piece).min(items.len());
            let rest = [&items[..at], &items[end..]].concat();
            match still(&rest) {
                Some(true) => items = rest,
                Some(false) => at = end,
                None => return items,
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::plan::FaultWhat;

    #[test]
    fn what_does_not_matter_is_taken_away() {
        let plan = (0..).map(Plan::draw).find(|plan| plan.faults.len() > 8).unwrap();
        let (needed_fault, needed_ops) = (plan.faults[5], [plan.ops[17].id, plan.ops[60].id]);
        let fails = |plan: &Plan| {
            let has = |id: u32| plan.ops.iter().any(|op| op.id == id);
            let all = plan.faults.contains(&needed_fault) && needed_ops.iter().all(|&id| has(id));
            all.then_some(Wrong::Lost)
        };
        let shrunk = shrink(&plan, Wrong::Lost, 10_000, fails);
        assert_eq!(shrunk.plan.faults, [needed_fault]);
        assert_eq!(shrunk.plan.ops.iter().map(|op| op.id).collect::<Vec<_>>(), needed_ops);
        assert!(shrunk.runs < 500, "{} runs", shrunk.runs);
    }

    #[test]
    fn another_failure_does_not_count_and_the_search_is_bounded() {
        let plan = (0..).map(Plan::draw).find(|plan| plan.faults.len() > 8).unwrap();
        let kills = |plan: &Plan| {
            let kill = |what: FaultWhat| matches!(what, FaultWhat::Kill { .. });
            plan.faults.iter().any(|fault| kill(fault.what))
        };
        let fails = |plan: &Plan| Some(if kills(plan) { Wrong::Old } else { Wrong::Lost });
        let mut with_kill = plan.clone();
        with_kill.faults[3].what = FaultWhat::Kill { member: 0 };
        let shrunk = shrink(&with_kill, Wrong::Old, 10_000, fails);
        assert_eq!(shrunk.plan.faults.len(), 1);
        assert!(shrunk.plan.ops.is_empty());
        let little = shrink(&with_kill, Wrong::Old, 3, fails);
        assert_eq!(little.runs, 3);
        assert!(kills(&little.plan));
    }
}
