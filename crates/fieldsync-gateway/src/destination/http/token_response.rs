//! What a token endpoint answers.

use std::borrow::Cow;
use std::time::Duration;

use serde_json_borrow::Value;

use super::mapping::AuthMapping;
use crate::http_client::parse_http_url;

/// A longer error is not a code.
const ERROR_CODE_BYTES_MAX: usize = 60;

/// An access token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenGrant {
    pub(crate) token: String,
    /// The address for calls, if the response names one.
    pub(crate) api: Option<String>,
    pub(crate) lifetime: Option<Duration>,
}

/// Why there is no token. The texts have no secret: devices and `/readyz` show them to everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenTrouble {
    /// It goes away by itself.
    Busy(String),
    /// An operator has to act.
    Refused(String),
}

/// The token in a response. Zoho refuses with status 200, too. `secrets` are those of the request, which the response
/// may repeat.
pub(crate) fn parse_token_response(
    auth: &AuthMapping,
    status: u16,
    body: &[u8],
    secrets: &[String],
) -> Result<TokenGrant, TokenTrouble> {
    let Ok(response) = serde_json::from_slice::<Value<'_>>(body) else {
        let reason = format!("the token endpoint answered with status {status}, and not with JSON");
        // Such as 404: the address is wrong.
        let is_refusal = (400..500).contains(&status) && !matches!(status, 408 | 429);
        return Err(if is_refusal { TokenTrouble::Refused(reason) } else { TokenTrouble::Busy(reason) });
    };
    if let Some(error) = response.get("error").as_str().or_else(|| response.get("code").as_str()) {
        let shown = show_error(error, secrets);
        let reason = format!("the token endpoint refuses: {shown}");
        let is_busy = status == 429 || status >= 500 || auth.busy_errors.iter().any(|busy| busy == error);
        return Err(if is_busy { TokenTrouble::Busy(reason) } else { TokenTrouble::Refused(reason) });
    }
    let token = response.get("access_token").as_str();
    let token = token.filter(|token| !token.is_empty() && (200..300).contains(&status));
    let Some(token) = token else {
        let reason = format!("the token endpoint answered with status {status}, and without a token");
        return Err(TokenTrouble::Busy(reason));
    };
    let api = auth.api_path.as_ref().and_then(|path| path.find_text(&response)).map(Cow::into_owned);
    let is_usable = |api: &str| parse_http_url(api).is_some() && !repeats_secret(api, secrets);
    if api.as_deref().is_some_and(|api| !is_usable(api)) {
        let reason = "the token endpoint names an address for calls that cannot be used";
        return Err(TokenTrouble::Refused(reason.into()));
    }
    let lifetime = response.get("expires_in");
    let seconds = lifetime.as_u64().or_else(|| lifetime.as_str()?.parse().ok());
    Ok(TokenGrant { token: token.to_owned(), api, lifetime: seconds.map(Duration::from_secs) })
}

/// The code of an error, if it is one and has no secret.
fn show_error<'a>(error: &'a str, secrets: &[String]) -> &'a str {
    let is_code_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_ .-".contains(&byte);
    let is_code = (1..=ERROR_CODE_BYTES_MAX).contains(&error.len()) && error.bytes().all(is_code_byte);
    if is_code && !repeats_secret(error, secrets) { error } else { "an error that is not shown" }
}

/// Whether a text has a secret, or is a part of one.
fn repeats_secret(text: &str, secrets: &[String]) -> bool {
    secrets.iter().any(|secret| text.contains(secret.as_str()) || secret.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::http::mapping::HttpMapping;
    use crate::destination::http::tests::support::zoho_test_mapping;

    fn parse(status: u16, body: &str) -> Result<TokenGrant, TokenTrouble> {
        let mapping: HttpMapping = zoho_test_mapping("https://accounts.example");
        let secrets = ["s3cret-client", "1000.0c7e.refresh"].map(str::to_owned);
        parse_token_response(&mapping.auth, status, body.as_bytes(), &secrets)
    }

    #[test]
    fn a_token_comes_with_its_lifetime_and_the_address_for_calls() {
        let body = r#"{"access_token": "1000.a", "api_domain": "https://api.example", "expires_in": 3600}"#;
        let grant = parse(200, body).ok().unwrap();
        assert_eq!((grant.token.as_str(), grant.api.as_deref()), ("1000.a", Some("https://api.example")));
        assert_eq!(grant.lifetime, Some(Duration::from_hours(1)));
        assert!(parse(200, r#"{"access_token": "a", "api_domain": "ftp://x"}"#).is_err());
    }

    #[test]
    fn a_response_that_repeats_the_request_is_not_shown() {
        for error in [
            "client_secret=abc&grant_type=refresh_token",
            "bad secret s3cret-client",
            "1000.0c7e",
            "https://u:p@crm.example/",
            "",
            &"a".repeat(61),
        ] {
            let trouble = parse(200, &format!(r#"{{"error": "{error}"}}"#)).err().unwrap();
            let reason = "the token endpoint refuses: an error that is not shown".to_owned();
            assert_eq!(trouble, TokenTrouble::Refused(reason), "{error}");
        }
        for api in ["https://me:pw@crm.example", "ftp://crm", "https://1000.0c7e.refresh/x"] {
            let body = format!(r#"{{"access_token": "a", "api_domain": "{api}"}}"#);
            let reason = "the token endpoint names an address for calls that cannot be used".to_owned();
            assert_eq!(parse(200, &body).err().unwrap(), TokenTrouble::Refused(reason), "{api}");
        }
    }

    #[test]
    fn a_refusal_with_status_200_is_recognised_and_only_some_need_an_operator() {
        let trouble = |status, body: &str| parse(status, body).err().unwrap();
        let busy = [
            (200, r#"{"error": "Access Denied", "status": "failure"}"#),
            (200, "<html></html>"),
            (500, r#"{"error": "server_error"}"#),
            (503, ""),
            (200, "{}"),
            (400, r#"{"access_token": "x"}"#),
        ];
        for (status, body) in busy {
            assert!(matches!(trouble(status, body), TokenTrouble::Busy(_)), "{status} {body}");
        }
        for status in [401, 403, 404, 405] {
            assert!(matches!(trouble(status, "<html></html>"), TokenTrouble::Refused(_)), "{status}");
        }
        for error in ["invalid_client", "invalid_client_secret", "invalid_code", "unsupported_grant_type"] {
            let body = format!(r#"{{"error": "{error}"}}"#);
            assert!(matches!(trouble(200, &body), TokenTrouble::Refused(reason) if reason.contains(error)));
        }
    }
}
