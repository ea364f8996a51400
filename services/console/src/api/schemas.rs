//! The schema endpoint: the reads of Confluent's Schema Registry REST API, served from the
//! contract. Schemas change in `schemas/` only, so every write is refused as on a registry in
//! READONLY mode; registering a schema that is already there answers its id, as there.
//!
//! Schemas are public contract data: every principal of the bus may read all of them.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::limits::MAX_SCHEMA_BODY_BYTES;
use crate::registry::{Registry, Schema};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

type Shared = State<Arc<Registry>>;

pub fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/", get(async || answer(json!({}))))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", axum::routing::post(lookup))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route(
            "/subjects/{subject}/versions/{version}/schema",
            get(version_schema),
        )
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/schema", get(by_id_schema))
        .route("/schemas/ids/{id}/subjects", get(by_id_subjects))
        .route("/schemas/ids/{id}/versions", get(by_id_versions))
        .route("/schemas/types", get(async || answer(json!(["AVRO"]))))
        .route("/config", get(config))
        .route("/config/{subject}", get(config))
        .route("/mode", get(mode))
        .route("/mode/{subject}", get(mode))
        .method_not_allowed_fallback(async || Fault::Method)
        .fallback(async || Fault::Path)
        .layer(DefaultBodyLimit::max(MAX_SCHEMA_BODY_BYTES))
        .with_state(registry)
}

/// Errors with the codes that registry clients know.
#[derive(Debug)]
enum Fault {
    Path,
    Method,
    Subject(String),
    Version(String),
    VersionSyntax(String),
    Schema,
    ReadOnly(String),
    Body,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Path => (StatusCode::NOT_FOUND, 404, "HTTP 404 Not Found".to_owned()),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                405,
                "This endpoint is read-only: schemas change in the contract".to_owned(),
            ),
            Self::Subject(subject) => (
                StatusCode::NOT_FOUND,
                40401,
                format!("Subject '{}' not found.", cut(&subject)),
            ),
            Self::Version(version) => (
                StatusCode::NOT_FOUND,
                40402,
                format!("Version {} not found.", cut(&version)),
            ),
            Self::Schema => (StatusCode::NOT_FOUND, 40403, "Schema not found".to_owned()),
            Self::VersionSyntax(version) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                42202,
                format!(
                    "The specified version '{}' is not a valid version id. Allowed values are \
                     between [1, 2^31-1] and the string \"latest\"",
                    cut(&version)
                ),
            ),
            Self::ReadOnly(subject) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                42205,
                format!("Subject {} is in read-only mode", cut(&subject)),
            ),
            Self::Body => (
                StatusCode::UNPROCESSABLE_ENTITY,
                42201,
                "Either the input schema or one its references is invalid".to_owned(),
            ),
        };
        let body = json!({"error_code": code, "message": message});
        (
            status,
            [(header::CONTENT_TYPE, CONTENT_TYPE)],
            body.to_string(),
        )
            .into_response()
    }
}

/// What the caller wrote comes back in a message only so far.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

fn answer(body: Value) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], body.to_string()).into_response()
}

async fn subjects(State(registry): Shared) -> Response {
    answer(registry.subjects().collect())
}

async fn versions(State(registry): Shared, Path(subject): Path<String>) -> Result<Response, Fault> {
    Ok(answer(
        of(&registry, &subject)?
            .iter()
            .map(|schema| schema.version)
            .collect(),
    ))
}

async fn version(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
) -> Result<Response, Fault> {
    Ok(answer(described(at(&registry, &subject, &version)?)))
}

async fn version_schema(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
) -> Result<Response, Fault> {
    Ok(raw(at(&registry, &subject, &version)?))
}

async fn by_id(State(registry): Shared, Path(id): Path<String>) -> Result<Response, Fault> {
    Ok(answer(json!({"schema": known(&registry, &id)?.text})))
}

async fn by_id_schema(State(registry): Shared, Path(id): Path<String>) -> Result<Response, Fault> {
    Ok(raw(known(&registry, &id)?))
}

async fn by_id_subjects(
    State(registry): Shared,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    Ok(answer(json!([known(&registry, &id)?.subject])))
}

async fn by_id_versions(
    State(registry): Shared,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let schema = known(&registry, &id)?;
    Ok(answer(
        json!([{"subject": schema.subject, "version": schema.version}]),
    ))
}

/// The contract's linter lets a schema change only so that old data stays readable.
async fn config() -> Response {
    answer(json!({"compatibilityLevel": "BACKWARD"}))
}

async fn mode() -> Response {
    answer(json!({"mode": "READONLY"}))
}

#[derive(Deserialize)]
struct Submitted {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
}

impl Submitted {
    fn avro(body: Result<Json<Self>, JsonRejection>) -> Result<Self, Fault> {
        let Json(submitted) = body.map_err(|_| Fault::Body)?;
        match submitted.schema_type.as_deref() {
            None | Some("AVRO") => Ok(submitted),
            Some(_) => Err(Fault::Body),
        }
    }
}

async fn lookup(
    State(registry): Shared,
    Path(subject): Path<String>,
    body: Result<Json<Submitted>, JsonRejection>,
) -> Result<Response, Fault> {
    let versions = of(&registry, &subject)?;
    let submitted = Submitted::avro(body)?;
    let found = versions
        .into_iter()
        .rev()
        .find(|schema| schema.is(&submitted.schema));
    Ok(answer(described(found.ok_or(Fault::Schema)?)))
}

async fn register(
    State(registry): Shared,
    Path(subject): Path<String>,
    body: Result<Json<Submitted>, JsonRejection>,
) -> Result<Response, Fault> {
    let submitted = Submitted::avro(body)?;
    let versions = registry.versions(&subject).unwrap_or_default();
    match versions
        .into_iter()
        .rev()
        .find(|schema| schema.is(&submitted.schema))
    {
        Some(schema) => Ok(answer(json!({"id": schema.id}))),
        None => Err(Fault::ReadOnly(subject)),
    }
}

fn of<'a>(registry: &'a Registry, subject: &str) -> Result<Vec<&'a Schema>, Fault> {
    registry
        .versions(subject)
        .ok_or_else(|| Fault::Subject(subject.to_owned()))
}

fn at<'a>(registry: &'a Registry, subject: &str, version: &str) -> Result<&'a Schema, Fault> {
    let versions = of(registry, subject)?;
    let found = if version == "latest" || version == "-1" {
        versions.last().copied()
    } else {
        let number = version
            .parse::<i32>()
            .ok()
            .and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if number > 0 => versions.into_iter().find(|s| s.version == number),
            _ => return Err(Fault::VersionSyntax(version.to_owned())),
        }
    };
    found.ok_or_else(|| Fault::Version(version.to_owned()))
}

fn known<'a>(registry: &'a Registry, id: &str) -> Result<&'a Schema, Fault> {
    id.parse()
        .ok()
        .and_then(|id| registry.schema(id))
        .ok_or(Fault::Schema)
}

fn described(schema: &Schema) -> Value {
    json!({
        "subject": schema.subject,
        "version": schema.version,
        "id": schema.id,
        "schema": schema.text,
    })
}

fn raw(schema: &Schema) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], schema.text.clone()).into_response()
}
