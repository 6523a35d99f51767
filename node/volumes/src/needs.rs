//! Which API objects a pod refers to.

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, Pod, PodSpec, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use crate::sources::{Needs, TokenKey};

/// The life of a token for which the pod asks for none: upstream's default.
const TOKEN_SECONDS: i64 = 3600;

/// Environment of a container of any sort.
type Environment<'a> = (&'a Option<Vec<EnvFromSource>>, &'a Option<Vec<EnvVar>>);

/// Collects the names from the volumes and the environments of all containers.
pub(crate) fn needs(pod: &Pod) -> Needs {
    let mut needs = Needs::default();
    let Some(spec) = &pod.spec else { return needs };
    for volume in spec.volumes.iter().flatten() {
        volume_needs(&mut needs, volume);
    }
    for (env_from, env) in environments(spec) {
        for source in env_from.iter().flatten() {
            needs.config_maps.extend(source.config_map_ref.as_ref().map(|source| source.name.clone()));
            needs.secrets.extend(source.secret_ref.as_ref().map(|source| source.name.clone()));
        }
        for source in env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            needs.config_maps.extend(source.config_map_key_ref.as_ref().map(|source| source.name.clone()));
            needs.secrets.extend(source.secret_key_ref.as_ref().map(|source| source.name.clone()));
        }
    }
    needs
}

/// What names a token of a projected volume.
pub(crate) fn token_key(source: &ServiceAccountTokenProjection) -> TokenKey {
    TokenKey {
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

/// The pod's containers, init containers first.
pub(crate) fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn environments(spec: &PodSpec) -> impl Iterator<Item = Environment<'_>> {
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    containers(spec)
        .map(|container| (&container.env_from, &container.env))
        .chain(ephemeral.map(|container| (&container.env_from, &container.env)))
}

fn volume_needs(needs: &mut Needs, volume: &Volume) {
    needs.config_maps.extend(volume.config_map.as_ref().map(|source| source.name.clone()));
    needs.secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()));
    let sources = volume.projected.iter().flat_map(|projected| &projected.sources).flatten();
    for VolumeProjection { config_map, secret, service_account_token, .. } in sources {
        needs.config_maps.extend(config_map.as_ref().map(|source| source.name.clone()));
        needs.secrets.extend(secret.as_ref().map(|source| source.name.clone()));
        needs.tokens.extend(service_account_token.as_ref().map(token_key));
    }
}
