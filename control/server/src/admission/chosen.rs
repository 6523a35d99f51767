//! Which plugins run: upstream's names, what is on by default, and `--enable-admission-plugins` and
//! `--disable-admission-plugins`.

use std::collections::BTreeSet;

use carrack_api::quota::Limited;

/// All plugins of Kubernetes 1.35 in the order they run, and whether they are on by default. NodeRestriction is on
/// here, since nodes are judged by the Node authorizer here.
pub(super) const ALL: &[(&str, bool)] = &[
    ("AlwaysAdmit", false),
    ("NamespaceAutoProvision", false),
    ("NamespaceLifecycle", true),
    ("NamespaceExists", false),
    ("LimitPodHardAntiAffinityTopology", false),
    ("LimitRanger", true),
    ("ServiceAccount", true),
    ("NodeRestriction", true),
    ("TaintNodesByCondition", true),
    ("AlwaysPullImages", false),
    ("ImagePolicyWebhook", false),
    ("PodSecurity", true),
    ("PodNodeSelector", false),
    ("Priority", true),
    ("DefaultTolerationSeconds", true),
    ("PodTolerationRestriction", false),
    ("EventRateLimit", false),
    ("ExtendedResourceToleration", false),
    ("DefaultStorageClass", true),
    ("StorageObjectInUseProtection", true),
    ("OwnerReferencesPermissionEnforcement", false),
    ("PersistentVolumeClaimResize", true),
    ("RuntimeClass", true),
    ("CertificateApproval", true),
    ("CertificateSigning", true),
    ("ClusterTrustBundleAttest", true),
    ("CertificateSubjectRestriction", true),
    ("DefaultIngressClass", true),
    ("DenyServiceExternalIPs", false),
    ("PodTopologyLabels", true),
    ("NodeDeclaredFeatureValidator", true),
    ("MutatingAdmissionPolicy", true),
    ("MutatingAdmissionWebhook", true),
    ("ValidatingAdmissionPolicy", true),
    ("ValidatingAdmissionWebhook", true),
    ("ResourceQuota", true),
    ("AlwaysDeny", false),
];
/// Plugins that need a configuration to run at all.
const CONFIGURED: &[&str] = &["ImagePolicyWebhook", "EventRateLimit"];

/// Why a choice cannot be followed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChoiceError {
    /// There is no such plugin.
    #[error("{flag} plugin {name:?} is unknown; known are {}", known())]
    Unknown {
        /// The option that names it.
        flag: &'static str,
        /// Its name.
        name: String,
    },
    /// It is to run and not to run.
    #[error("{0:?} is in enable-admission-plugins and in disable-admission-plugins: take it out of one")]
    Both(String),
    /// It cannot run without a configuration.
    #[error("plugin {0:?} needs a configuration: name one in --admission-control-config-file")]
    NoConfiguration(&'static str),
}

fn known() -> String {
    ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The plugins that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen(BTreeSet<&'static str>);

impl Default for Chosen {
    fn default() -> Self {
        Chosen(ALL.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect())
    }
}

impl Chosen {
    /// Those on by default, with `enable` and without `disable`.
    pub fn new(enable: &[String], disable: &[String]) -> Result<Self, ChoiceError> {
        if let Some(both) = enable.iter().find(|name| disable.contains(name)) {
            return Err(ChoiceError::Both(both.clone()));
        }
        let find = |flag: &'static str, name: &String| {
            let found = ALL.iter().map(|(known, _)| *known).find(|known| known == name);
            found.ok_or_else(|| ChoiceError::Unknown { flag, name: name.clone() })
        };
        let mut chosen = Chosen::default();
        for name in enable {
            chosen.0.insert(find("enable-admission-plugins", name)?);
        }
        for name in disable {
            chosen.0.remove(find("disable-admission-plugins", name)?);
        }
        Ok(chosen)
    }

    /// Whether a plugin runs.
    pub fn runs(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Refuses what cannot run as `configured` is.
    pub(super) fn check(&self, configured: impl Fn(&str) -> bool) -> Result<(), ChoiceError> {
        let without = CONFIGURED.iter().find(|name| self.runs(name) && !configured(name));
        without.map_or(Ok(()), |name| Err(ChoiceError::NoConfiguration(name)))
    }
}

/// What of admission is no plugin in the list of the server's configuration: whether policies, webhooks and quotas
/// count, whether namespaces are made on the way, and what quotas have to cover.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    chosen: Chosen,
    /// What may be used under a quota alone.
    pub(crate) limited: Vec<Limited>,
}

impl Steps {
    /// The steps that `chosen` leaves.
    pub fn new(chosen: Chosen, limited: Vec<Limited>) -> Self {
        Steps { chosen, limited }
    }

    /// Whether a step of that name runs.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.chosen.runs(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(enable: &[&str], disable: &[&str]) -> Result<Chosen, ChoiceError> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Chosen::new(&own(enable), &own(disable))
    }

    #[test]
    fn all_names_of_upstream_are_taken() {
        for (name, on) in ALL.iter().copied() {
            let off = choose(&[], &[name]).unwrap();
            assert!(!off.runs(name));
            assert_eq!(Chosen::default().runs(name), on, "{name}");
            assert!(choose(&[name], &[]).unwrap().runs(name));
        }
        let names: BTreeSet<&str> = ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let words = |result: Result<Chosen, ChoiceError>| result.unwrap_err().to_string();
        assert!(
            words(choose(&["Pod"], &[]))
                .starts_with("enable-admission-plugins plugin \"Pod\" is unknown; known are")
        );
        assert!(words(choose(&[], &["x"])).starts_with("disable-admission-plugins plugin \"x\" is unknown"));
        assert!(words(choose(&["AlwaysDeny"], &["AlwaysDeny"])).contains("take it out of one"));
        let images = choose(&["ImagePolicyWebhook"], &[]).unwrap();
        assert_eq!(images.check(|_| true), Ok(()));
        let refused = images.check(|name| name != "ImagePolicyWebhook").unwrap_err().to_string();
        assert!(refused.contains("\"ImagePolicyWebhook\" needs a configuration"), "{refused}");
    }
}
