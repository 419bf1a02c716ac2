//! What a token endpoint answers.

use std::time::Duration;

use serde_json::Value;

use super::mapping::AuthMapping;
use super::record_error::shorten;
use crate::http_client::parse_http_url;

/// An access token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenGrant {
    pub(crate) token: String,
    /// The address for calls, if the response names one.
    pub(crate) api: Option<String>,
    pub(crate) lifetime: Option<Duration>,
}

/// Why there is no token. The texts have no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenTrouble {
    /// It goes away by itself.
    Busy(String),
    /// An operator has to act.
    Refused(String),
}

/// The token in a response. Zoho refuses with status 200, too.
pub(crate) fn parse_token_response(
    auth: &AuthMapping,
    status: u16,
    body: &[u8],
) -> Result<TokenGrant, TokenTrouble> {
    let Ok(response) = serde_json::from_slice::<Value>(body) else {
        let reason = format!("the token endpoint answered with status {status}, and not with JSON");
        // Such as 404: the address is wrong.
        let is_refusal = (400..500).contains(&status) && !matches!(status, 408 | 429);
        return Err(if is_refusal { TokenTrouble::Refused(reason) } else { TokenTrouble::Busy(reason) });
    };
    let text = |name: &str| response.get(name).and_then(Value::as_str);
    if let Some(error) = text("error").or_else(|| text("code")) {
        let reason = shorten(&format!("the token endpoint refuses: {error}"));
        let is_busy = status == 429 || status >= 500 || auth.busy_errors.iter().any(|busy| busy == error);
        return Err(if is_busy { TokenTrouble::Busy(reason) } else { TokenTrouble::Refused(reason) });
    }
    let token = text("access_token").filter(|token| !token.is_empty() && (200..300).contains(&status));
    let Some(token) = token else {
        let reason = format!("the token endpoint answered with status {status}, and without a token");
        return Err(TokenTrouble::Busy(reason));
    };
    let api = auth.api_path.as_ref().and_then(|path| path.find_text(&response));
    if let Some(api) = api.as_deref().filter(|api| parse_http_url(api).is_none()) {
        let reason = format!("the token endpoint names an address for calls that is not a URL: {api}");
        return Err(TokenTrouble::Refused(shorten(&reason)));
    }
    let seconds = response.get("expires_in").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    });
    Ok(TokenGrant { token: token.to_owned(), api, lifetime: seconds.map(Duration::from_secs) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::http::mapping::HttpMapping;
    use crate::destination::http::tests::support::zoho_test_mapping;

    fn parse(status: u16, body: &str) -> Result<TokenGrant, TokenTrouble> {
        let mapping: HttpMapping = zoho_test_mapping("https://accounts.example");
        parse_token_response(&mapping.auth, status, body.as_bytes())
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
