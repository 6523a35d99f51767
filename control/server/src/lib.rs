//! The API server: HTTP, authentication, authorization, admission, discovery, watch.
