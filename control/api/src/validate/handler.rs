//! Probes and lifecycle hooks: what is done to a container and how often.

use k8s_openapi::api::core::v1::{
    ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Errors, list, not_negative, port, refuse, require, require_one_of, text};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// Which of the three probes is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeKind {
    /// Kills when it fails.
    Liveness,
    /// Takes out of service when it fails.
    Readiness,
    /// Holds the others back until it succeeds.
    Startup,
}

/// What may be done, of which exactly one has to be.
#[derive(Default)]
struct Handlers<'a> {
    exec: Option<&'a ExecAction>,
    http: Option<&'a HTTPGetAction>,
    tcp: Option<&'a TCPSocketAction>,
    grpc: Option<&'a GRPCAction>,
    sleep: Option<&'a SleepAction>,
}

/// A probe at `path`; `grace` is the pod's grace period, which bounds a `sleep`.
pub(super) fn probe(probe: &Probe, kind: ProbeKind, path: &FieldPath, errors: &mut Errors) {
    let handlers = Handlers {
        exec: probe.exec.as_ref(),
        http: probe.http_get.as_ref(),
        tcp: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler(&handlers, path, errors);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        not_negative(&path.child(field), i64::from(number.unwrap_or_default()), errors);
    }
    let grace = path.child("terminationGracePeriodSeconds");
    match (kind, probe.termination_grace_period_seconds) {
        (ProbeKind::Readiness, Some(seconds)) => {
            errors.push(FieldError::invalid(&grace, seconds, "must not be set for readinessProbes"));
        }
        (_, Some(seconds)) if seconds <= 0 => {
            errors.push(FieldError::invalid(&grace, seconds, "must be greater than 0"));
        }
        _ => {}
    }
    let successes = probe.success_threshold.unwrap_or(1);
    if kind != ProbeKind::Readiness && successes != 1 {
        errors.push(FieldError::invalid(&path.child("successThreshold"), successes, "must be 1"));
    }
}

/// Hooks at `path`.
pub(super) fn lifecycle(lifecycle: &Lifecycle, grace: Option<i64>, path: &FieldPath, errors: &mut Errors) {
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            self::hook(hook, grace, &path.child(name), errors);
        }
    }
}

fn hook(hook: &LifecycleHandler, grace: Option<i64>, path: &FieldPath, errors: &mut Errors) {
    let handlers = Handlers {
        exec: hook.exec.as_ref(),
        http: hook.http_get.as_ref(),
        tcp: hook.tcp_socket.as_ref(),
        grpc: None,
        sleep: hook.sleep.as_ref(),
    };
    handler(&handlers, path, errors);
    if let (Some(sleep), Some(grace)) = (&hook.sleep, grace)
        && (sleep.seconds < 0 || sleep.seconds > grace)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(&path.child("sleep"), sleep.seconds, why));
    }
}

fn handler(handlers: &Handlers<'_>, path: &FieldPath, errors: &mut Errors) {
    let mut found = 0;
    let mut count = |name: &str, errors: &mut Errors| {
        found += 1;
        if found > 1 {
            errors.push(FieldError::forbidden(&path.child(name), "may not specify more than 1 handler type"));
        }
        found == 1
    };
    if let Some(exec) = handlers.exec
        && count("exec", errors)
        && list(&exec.command).is_empty()
    {
        errors.push(FieldError::required(&path.child("exec").child("command"), ""));
    }
    if let Some(http) = handlers.http
        && count("httpGet", errors)
    {
        http_get(http, &path.child("httpGet"), errors);
    }
    if let Some(tcp) = handlers.tcp
        && count("tcpSocket", errors)
    {
        port_or_name(&tcp.port, &path.child("tcpSocket").child("port"), errors);
    }
    if let Some(grpc) = handlers.grpc
        && count("grpc", errors)
    {
        port(&path.child("grpc").child("port"), grpc.port, errors);
    }
    if handlers.sleep.is_some() {
        count("sleep", errors);
    }
    if found == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(http: &HTTPGetAction, path: &FieldPath, errors: &mut Errors) {
    require(&path.child("path"), text(&http.path), errors);
    port_or_name(&http.port, &path.child("port"), errors);
    require_one_of(&path.child("scheme"), text(&http.scheme), &["HTTP", "HTTPS"], errors);
    let headers = path.child("httpHeaders");
    for header in list(&http.http_headers) {
        let valid = !header.name.is_empty()
            && header.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-'));
        if !valid {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', \
                       regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(FieldError::invalid(&headers, header.name.as_str(), why));
        }
    }
}

fn port_or_name(target: &IntOrString, path: &FieldPath, errors: &mut Errors) {
    match target {
        IntOrString::Int(number) => port(path, *number, errors),
        IntOrString::String(name) => refuse(path, name, names::port_name(name), errors),
    }
}
