//! How a process ended, as the `metav1.Status` that clients read from the error channel.

use serde_json::{Value, json};

use crate::http::api::{ApiFailure, ExitStatus};
use crate::http::handlers;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The process did.
    Exited(ExitStatus),
    /// It was not started, or nobody knows how it ended.
    Failed(ApiFailure),
}

impl Outcome {
    /// The Status object.
    pub(super) fn status(&self) -> Value {
        match self {
            Outcome::Exited(ExitStatus { code: 0 }) => json!({"metadata": {}, "status": "Success"}),
            Outcome::Exited(ExitStatus { code }) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.message(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Outcome::Failed(failure) => json!({
                "metadata": {},
                "status": "Failure",
                "message": failure.to_string(),
                "reason": reason(failure),
                "code": handlers::status(failure).as_u16(),
            }),
        }
    }

    /// What clients are told who do not read Status objects; `None` when all is well.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Outcome::Exited(ExitStatus { code: 0 }) => None,
            _ => Some(self.message()),
        }
    }

    fn message(&self) -> String {
        match self {
            Outcome::Exited(ExitStatus { code }) => {
                format!("command terminated with non-zero exit code: exit status {code}")
            }
            Outcome::Failed(failure) => failure.to_string(),
        }
    }
}

fn reason(failure: &ApiFailure) -> &'static str {
    match failure {
        ApiFailure::BadRequest(_) => "BadRequest",
        ApiFailure::NotFound(_) => "NotFound",
        ApiFailure::Conflict(_) => "Conflict",
        ApiFailure::Internal(_) | ApiFailure::NotImplemented(_) => "InternalError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_exit_codes_as_kubectl_reads_them() {
        let ended = |code| Outcome::Exited(ExitStatus { code });
        assert_eq!(ended(0).status()["status"], "Success");
        assert_eq!(ended(0).text(), None);
        let status = ended(3).status();
        assert_eq!((&status["reason"], &status["status"]), (&json!("NonZeroExitCode"), &json!("Failure")));
        assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
        let failed = Outcome::Failed(ApiFailure::NotFound("container \"x\" not found".to_owned()));
        assert_eq!((&failed.status()["reason"], &failed.status()["code"]), (&json!("NotFound"), &json!(404)));
        assert_eq!(failed.text().as_deref(), Some("container \"x\" not found"));
    }
}
