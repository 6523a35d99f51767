//! What the options of `carrack server` say of admission: which plugins run, and what they are told.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use carrack_tests::eventually_sync;
use carrack_tests::lan::Lan;
use carrack_tests::servers::Servers;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long an answer may be tried for on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ResourceQuota
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ResourceQuotaConfiguration
    limitedResources:
    - resource: pods
      matchScopes:
      - {scopeName: PriorityClass, operator: In, values: [system-cluster-critical]}
    - resource: pods
      matchContains: [nvidia.com/gpu]
- name: PodSecurity
  path: security.yaml
";
const SECURITY: &str = "
apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: baseline, enforce-version: latest}
exemptions: {namespaces: [trusted]}
";

#[test]
fn admission_is_as_the_options_say() {
    let mut servers = Servers::prepare(Lan::new("admission", 1).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    mistakes_stop_the_start(&servers, dir.path()).unwrap();
    let config = dir.path().join("admission.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    std::fs::write(dir.path().join("security.yaml"), SECURITY).unwrap();
    let args = [
        "--admission-control-config-file",
        config.to_str().unwrap(),
        "--enable-admission-plugins",
        "AlwaysPullImages,DenyServiceExternalIPs",
        "--disable-admission-plugins",
        "ServiceAccount",
    ];
    servers.start(0, &args).unwrap();
    servers.serves(0).unwrap();
    plugins_run_as_they_are_told(&servers).unwrap();
}

fn mistakes_stop_the_start(servers: &Servers, dir: &Path) -> Result<()> {
    let said = servers.refused(0, &["--enable-admission-plugins", "NodeRestriction,PodSecurityPolicy"])?;
    let why = "enable-admission-plugins plugin \"PodSecurityPolicy\" is unknown; known are AlwaysAdmit, ";
    ensure!(said.contains(why) && said.contains("PodSecurity, ") && said.contains("AlwaysDeny"), "{said}");
    let said = servers.refused(0, &["--disable-admission-plugins", "podsecurity"])?;
    ensure!(
        said.contains("disable-admission-plugins plugin \"podsecurity\" is unknown; known are"),
        "{said}"
    );
    let said = servers.refused(0, &["--enable-admission-plugins", "EventRateLimit"])?;
    ensure!(said.contains("name one in --admission-control-config-file"), "{said}");
    let file = dir.join("wrong.yaml");
    std::fs::write(&file, CONFIG.replace("matchContains", "contains"))?;
    let said = servers.refused(0, &["--admission-control-config-file", &file.display().to_string()])?;
    ensure!(
        said.contains("wrong.yaml") && said.contains("plugin \"ResourceQuota\": unknown field"),
        "{said}"
    );
    Ok(())
}

/// Quotas that are needed, defaults of pod security, and the plugins that were turned on and off.
fn plugins_run_as_they_are_told(servers: &Servers) -> Result<()> {
    let create = |namespace: &str, spec: Value| create(servers, namespace, spec);
    let refused = |spec: Value, why: &str| match create("default", spec)? {
        Ok(_) => bail!("it was let in, and should not have been: {why}"),
        Err(said) if said.contains(why) => Ok(()),
        Err(said) => bail!("{said}, and not: {why}"),
    };
    let container = || json!({"name": "c", "image": "i", "imagePullPolicy": "Never"});
    let critical = json!({"containers": [container()], "priorityClassName": "system-cluster-critical"});
    let scopes = "insufficient quota to match these scopes: [{PriorityClass In [system-cluster-critical]}]";
    refused(critical, scopes)?;
    let mut device = container();
    device["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    refused(json!({"containers": [device]}), "insufficient quota to consume: requests.nvidia.com/gpu")?;
    let mut privileged = container();
    privileged["securityContext"] = json!({"privileged": true});
    let privileged = json!({"containers": [privileged]});
    refused(privileged.clone(), "violates PodSecurity \"baseline:latest\": privileged")?;
    // What is exempt is let in.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "trusted"}});
    let namespaces: Api<Namespace> = Api::all(servers.client(0)?);
    post(servers, &namespaces, namespace)?.map_err(anyhow::Error::msg)?;
    let made = create("trusted", privileged)?.map_err(anyhow::Error::msg)?;
    let spec = made.spec.context("no spec")?;
    ensure!(spec.containers[0].image_pull_policy.as_deref() == Some("Always"), "{spec:?}");
    ensure!(spec.service_account_name.is_none() && spec.volumes.unwrap_or_default().is_empty(), "an account");
    Ok(())
}

/// Creates a pod; what the server says when it does not let it in.
fn create(servers: &Servers, namespace: &str, spec: Value) -> Result<Result<Pod, String>> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}, "spec": spec});
    post(servers, &Api::namespaced(servers.client(0)?, namespace), pod)
}

/// Creates an object, again when the store has no leader for a moment or nothing was answered; a refusal in its words.
fn post<K>(servers: &Servers, api: &Api<K>, object: Value) -> Result<Result<K, String>>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let object: K = serde_json::from_value(object)?;
    eventually_sync(PATIENCE, || {
        match servers.runtime.block_on(api.create(&PostParams::default(), &object)) {
            Ok(made) => Ok(Some(Ok(made))),
            // An attempt before was heard after all.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(Ok(object.clone()))),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(Some(Err(status.message.clone()))),
            Err(kube::Error::Api(status)) if status.code < 500 => bail!("{status:?}"),
            Err(_) => Ok(None),
        }
    })
}
