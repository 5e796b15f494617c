//! Why a provider did not take a message, in one vocabulary for all of them.

use std::time::Duration;

use crate::domain::effect::Refusal;

/// Why a message did not go out.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("no message can reach that number")]
    BadNumber,
    #[error("that number had its share of messages")]
    NumberLimit,
    #[error("too many messages of ours")]
    RateLimited {
        /// When to come back, if the provider says.
        retry_after: Option<Duration>,
    },
    #[error("the account has no money or is suspended")]
    OutOfService,
    #[error("the provider finds our clock wrong")]
    ClockSkew,
    #[error("the wall clock is not known to be right, and the request must be signed with it")]
    Clock,
    #[error("refused: {0}")]
    Refused(String),
    #[error("answered {0}")]
    Status(u16),
    /// Nothing went out.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It may have been taken all the same.
    #[error("sent, and not answered: {0}")]
    Unanswered(String),
    #[error("the spool could not be written: {0}")]
    Spool(#[from] std::io::Error),
    #[error("its time was over before it was sent")]
    Late,
}

impl SendError {
    /// A provider's own code, which may be anything, in a form fit for a log.
    pub(super) fn refused(code: &str) -> Self {
        let fit = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        Self::Refused(code.chars().filter(fit).take(64).collect())
    }

    /// Whether it lies in the number, so that no other provider would do better.
    pub(super) const fn is_of_the_number(&self) -> bool {
        matches!(self, Self::BadNumber | Self::NumberLimit)
    }

    /// How long to wait, at least, before the same provider may do better; `None` if it will not,
    /// or if it may have taken the message: a second one would cost twice.
    pub(super) fn may_pass(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(retry_after.unwrap_or_default()),
            Self::Status(500..) | Self::Unreachable(_) => Some(Duration::ZERO),
            _ => None,
        }
    }

    /// What the guest is told.
    pub(super) const fn refusal(&self) -> Refusal {
        match self {
            Self::BadNumber => Refusal::BadPhone,
            Self::NumberLimit => Refusal::TooMany,
            _ => Refusal::NotSent,
        }
    }

    /// Its name in the counts.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::BadNumber => "bad_number",
            Self::NumberLimit => "number_limit",
            Self::RateLimited { .. } => "rate_limited",
            Self::OutOfService => "out_of_service",
            Self::ClockSkew => "clock_skew",
            Self::Clock => "clock",
            Self::Refused(_) | Self::Status(_) => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Unanswered(_) => "unanswered",
            Self::Spool(_) => "spool",
            Self::Late => "late",
        }
    }
}
