//! Golden cases of tracking and applying, and what holds of all configurations.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::find;

const T1: &str = "2026-01-01T00:00:00Z";
const T2: &str = "2026-01-01T00:00:05Z";

fn write<'a>(resource: &'a Resource, manager: &'a str, time: &str) -> Write<'a> {
    Write { resource, subresource: "", manager, now: time.parse().unwrap(), versions: None }
}

fn deployments() -> &'static Resource {
    find("apps", "v1", "deployments").unwrap()
}

fn deployment(replicas: Option<i64>, env: &[(&str, &str)]) -> Value {
    let env: Vec<Value> = env.iter().map(|(n, v)| json!({"name": n, "value": v})).collect();
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i", "env": env, "ports": [{"containerPort": 80}]}]},
            },
        },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

fn applied(live: Option<&Value>, manager: &str, config: &Value) -> Result<Value, ApplyError> {
    apply(&write(deployments(), manager, T1), live, config, false)
}

#[test]
fn an_apply_owns_what_it_says() {
    let object = applied(None, "a", &deployment(Some(2), &[("X", "1")])).unwrap();
    let entry = &object["metadata"]["managedFields"][0];
    let container = json!({
        ".": {},
        "f:name": {},
        "f:image": {},
        "f:env": {"k:{\"name\":\"X\"}": {".": {}, "f:name": {}, "f:value": {}}},
        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
    });
    assert_eq!(
        *entry,
        json!({
            "manager": "a", "operation": "Apply", "apiVersion": "apps/v1", "time": T1, "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {"f:app": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": container}},
                    },
                },
            },
        })
    );
}

#[test]
fn applying_again_changes_nothing() {
    let config = deployment(Some(2), &[("X", "1"), ("Y", "2")]);
    let first = applied(None, "a", &config).unwrap();
    let again = apply(&write(deployments(), "a", T2), Some(&first), &config, false).unwrap();
    assert_eq!(again, first);
}

#[test]
fn what_is_left_out_goes_unless_it_is_shared() {
    let first = applied(None, "a", &deployment(Some(2), &[("X", "1"), ("Y", "2")])).unwrap();
    let shared = applied(Some(&first), "b", &deployment(Some(2), &[("Y", "2")])).unwrap();
    let less = applied(Some(&shared), "a", &deployment(None, &[])).unwrap();
    assert_eq!(less["spec"]["replicas"], 2, "b owns it");
    let env = &less["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, json!([{"name": "Y", "value": "2"}]));
    let none = applied(Some(&less), "b", &deployment(None, &[])).unwrap();
    assert_eq!(none["spec"].get("replicas"), None);
    assert_eq!(none["spec"]["template"]["spec"]["containers"][0].get("env"), None);
}

#[test]
fn conflicts_name_managers_and_fields() {
    let mut live = deployment(Some(2), &[("X", "1")]);
    track(&write(deployments(), "kubectl-create", T1), None, &mut live);
    let config = deployment(Some(3), &[("X", "2")]);
    let error = applied(Some(&live), "a", &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-create\" using apps/v1 at 2026-01-01T00:00:00Z:\n\
         - .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].env[name=\"X\"].value"
    );
    let status = error.into_status().to_value();
    assert_eq!((&status["code"], &status["reason"]), (&json!(409), &json!("Conflict")));
    assert_eq!(
        status["details"]["causes"][0],
        json!({
            "reason": "FieldManagerConflict",
            "message": "conflict with \"kubectl-create\" using apps/v1 at 2026-01-01T00:00:00Z",
            "field": ".spec.replicas",
        })
    );
    let forced = apply(&write(deployments(), "a", T2), Some(&live), &config, true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    let managers = Managers::of(&forced).unwrap();
    let other = managers.entries.iter().find(|e| e.manager == "kubectl-create").unwrap();
    assert!(!other.fields.paths(&mut 9999).contains(&".spec.replicas".to_owned()));
}

#[test]
fn one_conflict_fits_a_line() {
    let live = applied(None, "b", &deployment(Some(2), &[])).unwrap();
    let error = applied(Some(&live), "a", &deployment(Some(3), &[])).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"b\": .spec.replicas");
}

#[test]
fn an_update_owns_what_it_changed() {
    let first = applied(None, "a", &deployment(Some(2), &[("X", "1")])).unwrap();
    let mut scaled = first.clone();
    scaled["spec"]["replicas"] = 5.into();
    track(&write(deployments(), "hpa", T2), Some(&first), &mut scaled);
    let managers = Managers::of(&scaled).unwrap();
    assert_eq!(managers.entries[1].fields.paths(&mut 9999), [".spec.replicas"]);
    assert!(!managers.entries[0].fields.paths(&mut 9999).contains(&".spec.replicas".to_owned()));
    // The one who applied meets a conflict where it insists, and none where it lets go.
    assert!(applied(Some(&scaled), "a", &deployment(Some(2), &[("X", "1")])).is_err());
    let kept = applied(Some(&scaled), "a", &deployment(None, &[("X", "1")])).unwrap();
    assert_eq!(kept["spec"]["replicas"], 5);
}

#[test]
fn what_was_there_before_is_owned_by_nobody_in_particular() {
    let live = deployment(Some(2), &[("X", "1")]);
    let mut touched = live.clone();
    track(&write(deployments(), "x", T1), Some(&live), &mut touched);
    assert_eq!(touched["metadata"].get("managedFields"), None, "never tracked");
    let error = applied(Some(&live), "a", &deployment(Some(3), &[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_by_itself() {
    let mut live = deployment(Some(2), &[]);
    live["metadata"]["annotations"] = json!({LAST_APPLIED: deployment(Some(2), &[]).to_string()});
    track(&write(deployments(), "kubectl-client-side-apply", T1), None, &mut live);
    let config = deployment(Some(4), &[]);
    assert!(applied(Some(&live), "other", &config).is_err());
    let new = applied(Some(&live), "kubectl", &config).unwrap();
    assert_eq!(new["spec"]["replicas"], 4);
    let last: Value = serde_json::from_str(meta::annotation(&new, LAST_APPLIED).unwrap()).unwrap();
    assert_eq!(last["spec"]["replicas"], 4);
}

#[test]
fn managed_fields_are_edited_kept_and_reset() {
    let first = applied(None, "a", &deployment(Some(2), &[])).unwrap();
    let kept = |list: Option<Value>| {
        let mut new = first.clone();
        match list {
            Some(list) => new["metadata"]["managedFields"] = list,
            None => meta::remove_in_metadata(&mut new, "managedFields"),
        }
        track(&write(deployments(), "x", T2), Some(&first), &mut new);
        new["metadata"].get("managedFields").cloned()
    };
    let before = Some(first["metadata"]["managedFields"].clone());
    assert_eq!(kept(None), before);
    assert_eq!(kept(Some(json!([]))), before, "clients that know nothing of them send an empty list");
    assert_eq!(kept(Some(json!([{}]))), None);
    assert_eq!(kept(Some(json!([{"operation": "Nonsense"}]))), before);
    let mut edited = before.clone().unwrap();
    edited[0]["manager"] = "b".into();
    assert_eq!(kept(Some(edited.clone())), Some(edited));
    let error = applied(Some(&first), "a", &first).unwrap_err();
    assert_eq!(error.to_string(), "metadata.managedFields must be nil");
}

#[test]
fn subresources_have_entries_of_their_own() {
    let mut live = deployment(Some(1), &[]);
    track(&write(deployments(), "m", T1), None, &mut live);
    let mut new = live.clone();
    new["status"] = json!({"replicas": 1});
    let status = Write { subresource: "status", ..write(deployments(), "m", T2) };
    track(&status, Some(&live), &mut new);
    let entries = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
}

#[test]
fn who_creates_an_object_owns_what_is_in_the_parts_that_it_always_has() {
    let owned = |resource: &Resource, mut object: Value| {
        track(&write(resource, "m", T1), None, &mut object);
        object["metadata"]["managedFields"][0]["fieldsV1"].clone()
    };
    let mut web = deployment(Some(1), &[]);
    web["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    let container = json!({
        ".": {}, "f:name": {}, "f:image": {}, "f:env": {},
        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
    });
    assert_eq!(
        owned(deployments(), web),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": container}},
                },
            },
        })
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    assert_eq!(
        owned(crate::find("", "v1", "configmaps").unwrap(), map),
        json!({"f:data": {".": {}, "f:k": {}}})
    );
}

#[test]
fn too_many_updaters_become_ancient() {
    let mut live = deployment(Some(0), &[]);
    track(&write(deployments(), "m0", T1), None, &mut live);
    for at in 1..20 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{at}")] = "x".into();
        track(&write(deployments(), &format!("m{at:02}"), T2), Some(&live), &mut new);
        live = new;
    }
    let managers = Managers::of(&live).unwrap();
    assert_eq!(managers.entries.len(), managed::MAX_UPDATERS);
    assert!(managers.entries.iter().any(|entry| entry.manager == "ancient-changes"));
}

#[test]
fn lists_take_the_applied_order() {
    let order = |names: &[&str]| {
        let env: Vec<(&str, &str)> = names.iter().map(|name| (*name, "v")).collect();
        deployment(None, &env)
    };
    let names = |object: &Value| -> Vec<String> {
        let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        env.iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
    };
    let live = applied(None, "a", &order(&["A", "B", "C"])).unwrap();
    let other = applied(Some(&live), "b", &order(&["D", "C", "A"])).unwrap();
    assert_eq!(names(&other), ["B", "D", "C", "A"]);
}

/// Configurations of a deployment: replicas, labels and environments.
fn configs() -> impl Strategy<Value = Value> {
    let env = proptest::collection::btree_map("[A-D]", "[0-2]", 0..4);
    let labels = proptest::collection::btree_map("[a-c]", "[0-2]", 0..3);
    (proptest::option::of(0..3i64), env, labels).prop_map(|(replicas, env, labels)| {
        let env: Vec<(&str, &str)> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut object = deployment(replicas, &env);
        for (name, value) in labels {
            object["metadata"]["labels"][name] = value.into();
        }
        object
    })
}

/// Objects without what only tells who wrote, empty things being absent, lists in one order.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    meta::remove_in_metadata(&mut object, "managedFields");
    let env = object.pointer_mut("/spec/template/spec/containers/0").and_then(Value::as_object_mut).unwrap();
    if let Some(Value::Array(mut list)) = env.remove("env") {
        list.sort_by_key(ToString::to_string);
        if !list.is_empty() {
            env.insert("env".into(), list.into());
        }
    }
    object
}

proptest! {
    #[test]
    fn twice_is_once(a in configs(), b in configs()) {
        let first = apply(&write(deployments(), "a", T1), None, &a, true).unwrap();
        let second = apply(&write(deployments(), "b", T1), Some(&first), &b, true).unwrap();
        let again = apply(&write(deployments(), "b", T2), Some(&second), &b, false).unwrap();
        prop_assert_eq!(again, second);
    }

    #[test]
    fn the_last_apply_of_one_manager_is_what_there_is(a in configs(), b in configs()) {
        let first = applied(None, "a", &a).unwrap();
        let second = applied(Some(&first), "a", &b).unwrap();
        prop_assert_eq!(plain(&second), plain(&b));
    }

    #[test]
    fn applying_and_letting_go_gives_back(a in configs(), b in configs()) {
        let first = applied(None, "a", &a).unwrap();
        // Only what does not change what is there: no conflicts, so that nothing is lost.
        if let Ok(second) = applied(Some(&first), "b", &b) {
            let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
            let third = applied(Some(&second), "b", &nothing).unwrap();
            prop_assert_eq!(plain(&third), plain(&first));
        }
    }

    #[test]
    fn what_takes_nothing_away_needs_no_pruning(a in configs(), b in configs(), more in configs()) {
        let form = Form::of_resource(deployments());
        let first = applied(None, "a", &a).unwrap();
        let mut live = apply(&write(deployments(), "b", T1), Some(&first), &b, true).unwrap();
        // Defaults are nobody's.
        live["spec"]["strategy"] = json!({"type": "RollingUpdate"});
        live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
        let mut managers = Managers::of(&live).unwrap();
        let place = managers.entries.iter().position(|entry| entry.manager == "a");
        prop_assume!(place.is_some());
        let last = managers.entries.swap_remove(place.unwrap()).fields;
        let config = merge(&a, &more, form);
        let mine = fields(&config, form);
        managers.entries.push(write(deployments(), "a", T2).entry(Operation::Apply, mine.clone()));
        let merged = merge(&live, &config, form);
        if !takes_away(&config, &mine, &last) {
            prop_assert_eq!(prune(&merged, &managers, &last, form), merged);
        }
    }

    #[test]
    fn every_field_of_a_tracked_object_has_an_owner(a in configs(), b in configs()) {
        let mut live = a;
        track(&write(deployments(), "m", T1), None, &mut live);
        let mut new = b;
        track(&write(deployments(), "n", T2), Some(&live), &mut new);
        let shape = deployments().schema.shape();
        let mut owned = Set::default();
        for entry in Managers::of(&new).unwrap().entries {
            owned.unite(entry.fields);
        }
        let mut there = fields(&new, Form::of(&shape));
        managed::strip(&mut there);
        prop_assert!(there.minus(&owned).is_empty(), "{:?}", there.minus(&owned).paths(&mut 9999));
    }
}

#[test]
fn lists_and_maps_of_nothing_are_owned_and_left_out() {
    let mut config = deployment(None, &[]);
    config["metadata"]["annotations"] = json!({});
    config["spec"]["template"]["spec"]["nodeSelector"] = json!({});
    config["spec"]["template"]["spec"]["tolerations"] = json!([]);
    let first = applied(None, "a", &config).unwrap();
    assert_eq!(first["metadata"].get("annotations"), None);
    let spec = &first["spec"]["template"]["spec"];
    assert_eq!((spec.get("nodeSelector"), spec.get("tolerations")), (None, None));
    let owned = &first["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(owned["f:metadata"]["f:annotations"], json!({}));
    assert_eq!(owned["f:spec"]["f:template"]["f:spec"]["f:tolerations"], json!({}));
    let later = write(deployments(), "a", T2);
    assert_eq!(apply(&later, Some(&first), &config, false).unwrap(), first, "nothing changed");
}
