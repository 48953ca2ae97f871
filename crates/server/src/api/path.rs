//! The part of an address that names one thing.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use domain::error::{Code, Refusal};

use super::error::Problem;
use crate::app::Shared;

/// The one id in a path. A text that cannot be such an id is answered like one that does not exist.
pub struct Path<T>(pub T);

/// The two ids in a path, outer first.
pub struct Path2<A, B>(pub A, pub B);

async fn parameters(parts: &mut Parts, state: &Shared) -> Result<Vec<String>, Problem> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map(|parameters| parameters.iter().map(|(_, value)| value.to_owned()).collect())
        .map_err(|_| Problem::new(Code::InvalidUtf8, "the address is not UTF-8; percent-encode it as UTF-8"))
}

fn parse<T: FromStr<Err = Refusal>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|refusal: Refusal| Problem {
        received_number: (refusal.code == Code::NotE164).then(|| text.to_owned()),
        ..Problem::new(Code::NotFound, refusal.detail)
    })
}

impl<T: FromStr<Err = Refusal> + Send> FromRequestParts<Shared> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Problem> {
        let texts = parameters(parts, state).await?;
        Ok(Path(parse(texts.first().expect("the route declares a parameter"))?))
    }
}

impl<A: FromStr<Err = Refusal> + Send, B: FromStr<Err = Refusal> + Send> FromRequestParts<Shared>
    for Path2<A, B>
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Problem> {
        let texts = parameters(parts, state).await?;
        let [first, second] = texts.as_slice() else { unreachable!("the route declares two parameters") };
        Ok(Path2(parse(first)?, parse(second)?))
    }
}
