//! Gets the images of a pod's containers, by policy, outside of the worker's own task.

use carrack_images::{Credential, Image as StoredImage, PullError, PullOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::Api;

use crate::errors::chain;
use crate::shared::Shared;
use crate::state::{Fetch, Image, Waiting};
use crate::worker::{Message, Worker};

/// How an attempt to get an image ended.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// It is here.
    Present(Image),
    /// It is not, and this is why.
    Failed(Waiting),
}

impl Worker {
    /// Starts to get a container's image; the answer comes as a message.
    pub(crate) fn pull(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let state = self.containers.entry(name.to_owned()).or_default();
        state.fetch = Fetch::UnderWay;
        let (shared, pod, me) = (self.shared(), self.pod.clone(), self.me.clone());
        let about = self.about.clone();
        tokio::spawn(async move {
            let result = get(&shared, &pod, &container, &about).await;
            let _ = me.send(Message::Pulled { container: container.name, result }).await;
        });
    }

    /// Takes note of how an attempt ended.
    pub(crate) fn pulled(&mut self, name: &str, result: Pulled) {
        let state = self.containers.entry(name.to_owned()).or_default();
        match result {
            Pulled::Present(image) => {
                (state.image, state.fetch) = (Some(image), Fetch::Done);
                state.waiting = None;
                if state.exit().is_none() {
                    state.forgive();
                }
            }
            Pulled::Failed(waiting) => {
                state.fetch = Fetch::Needed;
                let before = state.waiting.as_ref().map(|w| w.reason.as_str());
                // The first failure says what went wrong, later ones that they are being waited out.
                state.waiting = match before {
                    Some("ErrImagePull" | "ImagePullBackOff") if waiting.reason == "ErrImagePull" => {
                        Some(Waiting {
                            reason: "ImagePullBackOff".to_owned(),
                            message: format!("Back-off pulling image: {}", waiting.message),
                        })
                    }
                    _ => Some(waiting),
                };
                state.back_off(Timestamp::now());
                if state.waiting.as_ref().is_some_and(|w| w.reason == "ImagePullBackOff") {
                    let image = self.container(name).and_then(|c| c.image).unwrap_or_default();
                    self.shared.events.normal(
                        &self.about,
                        "BackOff",
                        format!("Back-off pulling image \"{image}\""),
                    );
                }
            }
        }
    }
}

/// What a pull policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Run what is here.
    Use,
    /// Ask the registry what the name means now, and fetch what lacks.
    Ask,
    /// There is nothing to run.
    Refuse,
}

/// What to do about an image that is here or not. The API server has filled in the policy by the image's tag.
fn step(policy: Option<&str>, is_here: bool) -> Step {
    match (policy, is_here) {
        (Some("Always"), _) => Step::Ask,
        (_, true) => Step::Use,
        (Some("Never"), false) => Step::Refuse,
        (_, false) => Step::Ask,
    }
}

async fn get(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    about: &k8s_openapi::api::core::v1::ObjectReference,
) -> Pulled {
    let reference = container.image.clone().unwrap_or_default();
    let here = shared.images.resolve(&reference);
    match (step(container.image_pull_policy.as_deref(), here.is_some()), here) {
        (Step::Use, Some(image)) => {
            let note = format!("Container image \"{reference}\" already present on machine");
            shared.events.normal(about, "Pulled", note);
            return present(shared, &reference, &image);
        }
        (Step::Refuse, _) => {
            let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
            shared.events.warning(about, "ErrImageNeverPull", &message);
            return Pulled::Failed(Waiting { reason: "ErrImageNeverPull".to_owned(), message });
        }
        (Step::Use | Step::Ask, _) => {}
    }
    shared.events.normal(about, "Pulling", format!("Pulling image \"{reference}\""));
    let began = std::time::Instant::now();
    let credentials = credentials(shared, pod, about).await;
    let options = PullOptions { insecure: shared.options.insecure_registries.clone(), progress: None };
    match shared.images.pull(&reference, &credentials, &options).await {
        Ok(image) => {
            let took = began.elapsed();
            let note = format!(
                "Successfully pulled image \"{reference}\" in {took:.0?} ({took:.0?} including waiting). Image size: {} bytes.",
                image.size
            );
            shared.events.normal(about, "Pulled", note);
            present(shared, &reference, &image)
        }
        Err(error) => {
            let note = format!("Failed to pull image \"{reference}\": {}", chain(&error));
            shared.events.warning(about, "Failed", note);
            shared.events.warning(about, "Failed", format!("Error: {}", error.reason()));
            failed(&error)
        }
    }
}

fn failed(error: &PullError) -> Pulled {
    Pulled::Failed(Waiting { reason: error.reason().to_owned(), message: chain(error) })
}

fn present(shared: &Shared, reference: &str, image: &StoredImage) -> Pulled {
    // Before it shows as in use: nobody may remove it meanwhile.
    shared.image_uses.touch(&image.id);
    let digest = image.digests.first().cloned().unwrap_or_else(|| image.id.clone());
    Pulled::Present(Image { id: image.id.clone(), name: reference.to_owned(), digest })
}

/// What the pod's pull secrets say. One that can not be read is told and passed over, as the image may need none.
async fn credentials(
    shared: &Shared,
    pod: &Pod,
    about: &k8s_openapi::api::core::v1::ObjectReference,
) -> Vec<Credential> {
    let names = pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_deref()).unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(shared.client.clone(), namespace);
    let mut all = Vec::new();
    for name in names.iter().map(|n| n.name.as_str()).filter(|n| !n.is_empty()) {
        let found = match api.get(name).await {
            Ok(secret) => read(&secret),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(list) => all.extend(list),
            Err(error) => {
                let note = format!("Unable to retrieve some image pull secrets ({name}): {error}");
                shared.events.warning(about, "FailedToRetrieveImagePullSecret", note);
            }
        }
    }
    all
}

fn read(secret: &Secret) -> Result<Vec<Credential>, String> {
    let data = secret.data.as_ref();
    if let Some(json) = data.and_then(|d| d.get(".dockerconfigjson")) {
        return Credential::from_docker_config(&json.0).map_err(|error| error.to_string());
    }
    if let Some(json) = data.and_then(|d| d.get(".dockercfg")) {
        return Credential::from_docker_cfg(&json.0).map_err(|error| error.to_string());
    }
    Err("it holds neither .dockerconfigjson nor .dockercfg".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        for (policy, here, missing) in [
            (Some("Always"), Step::Ask, Step::Ask),
            (Some("IfNotPresent"), Step::Use, Step::Ask),
            (Some("Never"), Step::Use, Step::Refuse),
            (None, Step::Use, Step::Ask),
        ] {
            assert_eq!((step(policy, true), step(policy, false)), (here, missing), "{policy:?}");
        }
    }
}
