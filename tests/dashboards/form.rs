//! What can be said of dashboards and rules without running anything but promtool.

use crate::board::{self, Board};
use crate::prometheus::promtool;
use crate::rules;
use crate::{complaints, test};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        complaints("every_dashboard_is_well_formed", faults),
        test("fault_of_a_dashboard_is_noticed", every_fault_is_noticed),
        complaints("every_dashboard_has_its_picture_on_the_page", pictures),
        test("promtool_reads_the_rules", || promtool(&["check", "rules", rules::FILE], "").map(drop)),
        test("every_alert_fires_in_a_made_up_series_and_rests_in_another", || {
            promtool(&["test", "rules", rules::TESTS], "").map(drop)
        }),
        complaints("no_alert_is_left_out_of_those_series", untested),
        test("alert_that_does_not_fire_is_noticed", changed_rule_is_noticed),
    ]
}

fn faults() -> Result<Vec<String>, String> {
    let boards = board::all()?;
    let uids: BTreeSet<&String> = boards.iter().map(|board| &board.uid).collect();
    let twice = (uids.len() != boards.len()).then(|| format!("two dashboards have one uid: {uids:?}"));
    let of = |board: &Board| {
        let name = board.name.clone();
        board.faults().into_iter().map(move |fault| format!("{name}: {fault}"))
    };
    let none = boards.is_empty().then(|| "there are no dashboards".to_owned());
    Ok(boards.iter().flat_map(of).chain(twice).chain(none).collect())
}

fn every_fault_is_noticed() -> Result<(), String> {
    let panel = |id: u32, x: u32| {
        json!({
            "id": id, "type": "timeseries", "title": "A", "description": "B.",
            "datasource": {"uid": "${datasource}"}, "gridPos": {"x": x, "y": 0, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": "s"}},
            "targets": [{"datasource": {"uid": "${datasource}"}, "legendFormat": "c",
                "expr": "rate(process_threads{cluster=~\"$cluster\", job=~\"$job\", node=~\"$node\", \
                    instance=~\"$instance\"}[1m])"}],
        })
    };
    let good = json!({
        "uid": "bridgewarden-a", "title": "A", "description": "B.", "schemaVersion": 39,
        "templating": {"list": [
            {"name": "datasource", "type": "datasource"}, {"name": "job", "type": "query"},
            {"name": "instance", "type": "query"}, {"name": "cluster", "type": "query"},
            {"name": "node", "type": "query"},
        ]},
        "panels": [panel(1, 0), panel(2, 12)],
    });
    let found = Board::from_value(good.clone())?.faults();
    if !found.is_empty() {
        return Err(format!("found in what is right: {found:?}"));
    }
    let changes: [(&str, Value); 15] = [
        ("/uid", json!("other")),
        ("/schemaVersion", json!(20)),
        ("/description", json!("")),
        ("/templating/list/0/type", json!("query")),
        ("/templating/list/1/name", json!("task")),
        ("/templating/list/3/name", json!("group")),
        ("/panels/1/id", json!(1)),
        ("/panels/1/gridPos/x", json!(11)),
        ("/panels/1/gridPos/w", json!(13)),
        ("/panels/0/type", json!("graph")),
        ("/panels/0/description", json!("no sentence")),
        ("/panels/0/datasource/uid", json!("P1809F7CD0C75ACF3")),
        ("/panels/0/fieldConfig/defaults/unit", json!("")),
        ("/panels/0/targets/0/expr", json!("process_threads{job=~\"$job\"}")),
        ("/panels/0/targets/0/legendFormat", json!("")),
    ];
    for (place, value) in changes {
        let mut bad = good.clone();
        *bad.pointer_mut(place).ok_or_else(|| format!("there is no {place}"))? = value;
        if Board::from_value(bad)?.faults().is_empty() {
            return Err(format!("{place} is wrong, and that is not noticed"));
        }
    }
    let mut with_id = good;
    with_id["id"] = json!(7);
    match Board::from_value(with_id)?.faults().len() {
        1 => Ok(()),
        count => Err(format!("an id is noticed {count} times")),
    }
}

fn pictures() -> Result<Vec<String>, String> {
    let page = std::fs::read_to_string(crate::project("docs/dashboards.md"))
        .map_err(|error| format!("docs/dashboards.md: {error}"))?;
    let missing = board::all()?.into_iter().filter_map(|board| {
        let picture = format!("dashboards/{}.svg", board.name);
        let shown = page.contains(&format!("]({picture})")) && page.contains(&format!("`{}`", board.uid));
        let there = crate::project("docs").join(&picture).exists();
        (!shown || !there)
            .then(|| format!("docs/{picture} is not there, or not on docs/dashboards.md: make pictures"))
    });
    Ok(missing.collect())
}

fn untested() -> Result<Vec<String>, String> {
    let [fire, rest] = rules::tested()?;
    let alerts = rules::all()?.into_iter().filter_map(|rule| rule.alert);
    let lacks = alerts.flat_map(|alert| {
        let lacks = [("fires", !fire.contains(&alert)), ("rests", !rest.contains(&alert))];
        lacks.into_iter().filter(|(_, lacks)| *lacks).map(move |(what, _)| format!("{alert} never {what}"))
    });
    Ok(lacks.collect())
}

fn changed_rule_is_noticed() -> Result<(), String> {
    let read = |path: &str| {
        std::fs::read_to_string(crate::project(path)).map_err(|error| format!("{path}: {error}"))
    };
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("changed-rules");
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let write = |name: &str, text: &str| {
        std::fs::write(directory.join(name), text).map_err(|error| format!("{name}: {error}"))
    };
    write("tests.yaml", &read(rules::TESTS)?.replace("../bridgewarden/alerts.yaml", "alerts.yaml"))?;
    let tests = directory.join("tests.yaml");
    let asked = || promtool(&["test", "rules", &tests.to_string_lossy()], "");
    let right = read(rules::FILE)?;
    write("alerts.yaml", &right)?;
    asked()?;
    for rule in rules::all()?.into_iter().filter(|rule| rule.alert.is_some()) {
        let name = rule.alert.unwrap_or_default();
        // With a name that nothing fires under, all else is as before.
        write("alerts.yaml", &right.replace(&format!("- alert: {name}\n"), "- alert: Other\n"))?;
        if asked().is_ok() {
            return Err(format!("{name} never fires, and that is not noticed"));
        }
    }
    Ok(())
}
