//! Points about tokens, where the server requires one.

use super::finding::{Finding, PointResult, require};
use super::point::{ALL_RESPONSES, LOOK_UP, Point};
use super::refusal::require_not_applied;
use super::request::{KitRequest, TokenUse};
use super::server::TestedServer;

pub(super) const POINTS: &[Point] = &[
    Point {
        id: "token.batch",
        title: "A batch without the token, or with another one, gets 401 or 403 and is not applied",
        paragraph: ALL_RESPONSES,
        check: |server| Box::pin(a_batch_without_the_token_is_refused(server)),
    },
    Point {
        id: "token.lookup",
        title: "An outcome query without the token, or with another one, gets 401 or 403",
        paragraph: LOOK_UP,
        check: |server| Box::pin(a_query_without_the_token_is_refused(server)),
    },
];

const OTHER_TOKENS: [TokenUse; 2] = [TokenUse::Missing, TokenUse::Wrong];

fn require_token(server: &TestedServer) -> PointResult {
    if server.has_token() { Ok(()) } else { Err(Finding::skipped("there is no --token-file")) }
}

async fn a_batch_without_the_token_is_refused(server: &TestedServer) -> PointResult {
    require_token(server)?;
    let batch = server.sample_batch(1)?;
    for token in OTHER_TOKENS {
        require_unauthorized(server, KitRequest::post(&batch.under_new_id()).with_token(token)).await?;
    }
    require_not_applied(server, &batch, "a batch without the token").await
}

async fn a_query_without_the_token_is_refused(server: &TestedServer) -> PointResult {
    require_token(server)?;
    let batch = server.sample_batch(1)?;
    server.submit(&batch).await?;
    for token in OTHER_TOKENS {
        require_unauthorized(server, KitRequest::look_up(batch.device, batch.id).with_token(token)).await?;
    }
    Ok(())
}

async fn require_unauthorized(server: &TestedServer, request: KitRequest) -> PointResult {
    let response = server.send(&request).await?;
    let is_refused = matches!(response.status.as_u16(), 401 | 403);
    require(is_refused, "HTTP 401 or 403", || match request.token {
        TokenUse::Wrong => format!("{} for another token", response.describe()),
        TokenUse::Missing | TokenUse::Configured => format!("{} without a token", response.describe()),
    })
}
