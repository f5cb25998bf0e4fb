//! Failures in the UI's shape: the cause, the next step, a code, and the field it belongs to.

use confab_client::rest::SessionError;

use crate::dto::UiError;

impl UiError {
    /// From a sentence of the form "cause; next step".
    pub fn new(code: &str, sentence: &str) -> Self {
        let (cause, next) = sentence.split_once("; ").unwrap_or((sentence, ""));
        Self {
            code: code.into(),
            message: sentence_case(cause),
            next: sentence_case(next),
            field: None,
            retry_after: None,
        }
    }

    /// The sentence as two: the cause, and what to do.
    pub fn sentences(sentence: &str) -> String {
        let error = Self::new("", sentence);
        format!("{} {}", error.message, error.next).trim().to_owned()
    }

    /// Beside a field of the form.
    pub fn at(mut self, field: &str) -> Self {
        self.field = Some(field.into());
        self
    }
}

/// Capital first letter, full stop.
fn sentence_case(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let mut sentence: String = first.to_uppercase().chain(letters).collect();
    if !sentence.ends_with(['.', '?', '!']) {
        sentence.push('.');
    }
    sentence
}

impl From<SessionError> for UiError {
    fn from(error: SessionError) -> Self {
        let mut ui = Self::new(error.code(), &error.to_string());
        ui.field = match error.code() {
            "wrong_credentials" | "too_many_attempts" => Some("password".into()),
            "unreachable" | "timed_out" | "not_confab" | "bad_address" => Some("server".into()),
            "room_full" | "room_locked" | "not_allowed" => Some("room".into()),
            _ => None,
        };
        if let SessionError::Refused {
            retry_after: Some(wait),
            ..
        } = error
        {
            ui.retry_after = Some(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX));
        }
        ui
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_split_into_cause_and_next_step() {
        let error = UiError::new(
            "camera_busy",
            "the camera is used by another program; close it and try again",
        );
        assert_eq!(error.message, "The camera is used by another program.");
        assert_eq!(error.next, "Close it and try again.");
    }
}
