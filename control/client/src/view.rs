//! Views: types that are read where a whole kind is served and keep only the fields that their readers need. Each
//! reader has views of its own, since each needs other fields; this says where they are read.

/// Says that `$view`, which has a field `metadata: ObjectMeta`, is read where `$whole` is served.
#[macro_export]
macro_rules! view_of {
    ($view:ty, $whole:ty) => {
        impl ::kube::Resource for $view {
            type DynamicType = ();
            type Scope = <$whole as ::kube::Resource>::Scope;

            fn kind(_: &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::kind(&())
            }
            fn group(_: &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::group(&())
            }
            fn version(_: &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::version(&())
            }
            fn plural(_: &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::plural(&())
            }
            fn meta(&self) -> &::kube::api::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ::kube::api::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Resource;
    use kube::api::ObjectMeta;

    struct Name {
        metadata: ObjectMeta,
    }
    crate::view_of!(Name, Pod);

    #[test]
    fn a_view_is_read_where_the_whole_is_served() {
        assert_eq!(Name::plural(&()), "pods");
        assert_eq!(Name::url_path(&(), Some("default")), Pod::url_path(&(), Some("default")));
        let mut view = Name { metadata: ObjectMeta::default() };
        view.meta_mut().name = Some("a".to_owned());
        assert_eq!(view.meta().name.as_deref(), Some("a"));
    }
}
