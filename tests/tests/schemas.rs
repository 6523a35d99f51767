//! Requests made up from the published schemas, by schemathesis (PyPI): whatever they are, the server neither fails nor hangs,
//! and still answers afterwards.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_tests::python::python;
use carrack_tests::{Cluster, on_a_control_plane};
use serde_json::{Map, Value, json};

const VERSION: &str = "schemathesis==4.32.5";

/// How long requests are made up, in seconds.
const BUDGET: &str = "40";

/// What is asked about: a document, and resources in it whose schemas are small enough to make up many objects quickly.
const DOCUMENTS: &[(&str, &[&str])] = &[
    ("api/v1", &["configmaps", "services", "resourcequotas", "limitranges"]),
    ("apis/apps/v1", &["controllerrevisions"]),
    ("apis/authorization.k8s.io/v1", &["selfsubjectaccessreviews", "subjectaccessreviews"]),
    ("apis/autoscaling/v2", &["horizontalpodautoscalers"]),
    ("apis/coordination.k8s.io/v1", &["leases"]),
    ("apis/networking.k8s.io/v1", &["ingresses", "networkpolicies"]),
    ("apis/policy/v1", &["poddisruptionbudgets"]),
    ("apis/rbac.authorization.k8s.io/v1", &["rolebindings", "roles"]),
    ("apis/scheduling.k8s.io/v1", &["priorityclasses"]),
];

/// The namespace, and the name of objects, that requests are about.
const NAME: &str = "fuzzed";

#[test]
fn no_request_that_fits_the_schemas_breaks_the_server() {
    let python = python("schemathesis", &[VERSION]).context("python3 with venv and pip is needed").unwrap();
    let program = python.with_file_name("schemathesis");
    on_a_control_plane("schemas", |cluster| async move {
        let dir = tempfile::tempdir()?;
        prepare(&cluster).await?;
        std::fs::write(dir.path().join("openapi.json"), document(&cluster).await?.to_string())?;
        let server = identity(&cluster, dir.path())?;
        fuzz(&cluster, &program, dir.path(), &server).await?;
        let version = cluster.client.apiserver_version().await.context("the server is gone")?;
        ensure!(!version.git_version.is_empty());
        Ok(())
    });
}

/// Something that requests by name find.
async fn prepare(cluster: &Cluster) -> Result<()> {
    let meta = json!({"name": NAME, "namespace": NAME});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}),
    ];
    for object in objects {
        cluster.apply(&object.to_string()).await?;
    }
    Ok(())
}

/// One document of the chosen resources, without watches, which do not end.
async fn document(cluster: &Cluster) -> Result<Value> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for (name, resources) in DOCUMENTS {
        let request = http::Request::get(format!("/openapi/v3/{name}")).body(Vec::new())?;
        let mut found: Value = cluster.client.request(request).await?;
        let all = found["components"]["schemas"].as_object_mut().context("schemas")?;
        schemas.append(all);
        for (path, item) in found["paths"].as_object_mut().context("paths")? {
            let parts: Vec<&str> = path.split('/').collect();
            let chosen = parts.iter().any(|part| resources.contains(part));
            if chosen && !parts.contains(&"watch") && !parts.contains(&"proxy") {
                paths.insert(path.clone(), settled(item.take()));
            }
        }
    }
    ensure!(paths.len() > 40, "only {} paths are published", paths.len());
    Ok(json!({
        "openapi": "3.0.0", "info": {"title": "carrack", "version": "1"},
        "paths": paths, "components": {"schemas": schemas},
    }))
}

/// A path whose names are those that exist.
fn settled(mut item: Value) -> Value {
    let settle = |owner: &mut Value| {
        let Some(parameters) = owner.get_mut("parameters").and_then(Value::as_array_mut) else { return };
        parameters.retain(|parameter| parameter["name"] != "watch");
        for parameter in parameters {
            if parameter["name"] == "name" || parameter["name"] == "namespace" {
                parameter["schema"] = json!({"type": "string", "enum": [NAME]});
            }
        }
    };
    settle(&mut item);
    item.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(settle);
    item
}

/// Writes the administrator's certificate and key; answers where the server is.
fn identity(cluster: &Cluster, dir: &Path) -> Result<String> {
    let config: Value = serde_saphyr::from_str(&std::fs::read_to_string(cluster.kubeconfig())?)?;
    let (server, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let files = [
        ("ca.pem", &server["certificate-authority-data"]),
        ("crt.pem", &user["client-certificate-data"]),
        ("key.pem", &user["client-key-data"]),
    ];
    for (name, data) in files {
        std::fs::write(dir.join(name), STANDARD.decode(data.as_str().context(name)?)?)?;
    }
    Ok(server["server"].as_str().context("server")?.to_owned())
}

async fn fuzz(cluster: &Cluster, program: &PathBuf, dir: &Path, server: &str) -> Result<()> {
    let mut command = cluster.host.command(program);
    command.current_dir(dir).args(["run", "openapi.json", "--url", server]);
    command.args(["--tls-verify", "ca.pem", "--request-cert", "crt.pem", "--request-cert-key", "key.pem"]);
    command.args(["--checks", "not_a_server_error", "--phases", "fuzzing", "--max-examples", "5"]);
    // A request that takes longer hangs.
    command.args(["--request-timeout", "20", "--max-time", BUDGET, "--workers", "2"]);
    // What passed yesterday passes today.
    let seed = std::env::var("CARRACK_SEED").unwrap_or_else(|_| "1".to_owned());
    command.args(["--no-color", "--warnings", "off", "--no-shrink", "--seed", &seed]);
    let run = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(Duration::from_secs(300), run).await.context("schemathesis hangs")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let made = said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse::<usize>().ok());
    ensure!(made.is_some_and(|made| made >= 50), "too little was tried:\n{said}");
    Ok(())
}
