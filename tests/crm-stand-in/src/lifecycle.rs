//! The life of the process: reads the schema, serves until a signal, and prints the report.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web::{PayloadConfig, ServiceConfig};
use actix_web::{App, HttpServer};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use crate::connection::keep_handle;
use crate::control_routes;
use crate::limits::LimitRules;
use crate::options::{CommonOptions, CrmCommand, SalesforceOptions, StandInOptions, ZohoOptions};
use crate::salesforce::{self, SalesforceCrm};
use crate::schema::{Schema, parse_schema};
use crate::state::{CrmKind, CrmRules, StandIn, UnknownFields};
use crate::storage::OrderRule;
use crate::tokens::TokenRules;
use crate::zoho::{self, ZohoCrm};

const ZOHO_SCHEMA: &str = include_str!("../schemas/zoho.toml");
const SALESFORCE_SCHEMA: &str = include_str!("../schemas/salesforce.toml");
const BODY_BYTES_MAX: usize = 32 << 20;
/// Longer than clients keep an idle connection, so that only faults close one while a request is on its way.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);

/// Why the stand-in ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot read the schema {path}: {source}")]
    SchemaFile { path: PathBuf, source: io::Error },
    #[error("the schema is not valid: {0}")]
    Schema(String),
    #[error("a fault is not valid: {0}")]
    Faults(String),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    #[error("the server failed: {0}")]
    Serve(#[source] io::Error),
    #[error("cannot write the report: {0}")]
    Report(#[from] serde_json::Error),
}

/// What is served.
#[derive(Clone)]
enum CrmService {
    Zoho(Arc<ZohoCrm>),
    Salesforce(Arc<SalesforceCrm>),
}

impl CrmService {
    fn stand_in(&self) -> &Arc<StandIn> {
        match self {
            Self::Zoho(crm) => &crm.stand_in,
            Self::Salesforce(crm) => &crm.stand_in,
        }
    }

    fn register_routes(&self, config: &mut ServiceConfig) {
        control_routes::register_routes(config, self.stand_in());
        match self {
            Self::Zoho(crm) => zoho::register_routes(config, crm),
            Self::Salesforce(crm) => salesforce::register_routes(config, crm),
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run_until_signal(options: &StandInOptions) -> Result<(), RunError> {
    let (common, schema) = match &options.crm {
        CrmCommand::Zoho(zoho) => (&zoho.common, ZOHO_SCHEMA),
        CrmCommand::Salesforce(salesforce) => (&salesforce.common, SALESFORCE_SCHEMA),
    };
    if common.print_schema {
        return print_text(schema).map_err(RunError::Start);
    }
    let schema = load_schema(common, schema)?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(RunError::Start)?;
    runtime.block_on(serve_until_signal(options, common, schema))
}

async fn serve_until_signal(
    options: &StandInOptions,
    common: &CommonOptions,
    schema: Schema,
) -> Result<(), RunError> {
    let mut signal = open_signal_stream(&[SIGTERM, SIGINT]).map_err(RunError::Start)?;
    let listener = TcpListener::bind(common.listen)
        .map_err(|source| RunError::Listen { address: common.listen, source })?;
    let address = listener.local_addr().map_err(RunError::Start)?;
    let faults = common.faults.to_settings().map_err(RunError::Faults)?;
    let stand_in = |rules| Arc::new(StandIn::new(rules, schema.clone(), faults.clone()));
    let service = match &options.crm {
        CrmCommand::Zoho(zoho) => CrmService::Zoho(Arc::new(ZohoCrm {
            stand_in: stand_in(zoho_rules(zoho, address)),
            options: zoho.as_ref().clone(),
        })),
        CrmCommand::Salesforce(salesforce) => CrmService::Salesforce(Arc::new(SalesforceCrm {
            stand_in: stand_in(salesforce_rules(salesforce, address)),
            options: salesforce.as_ref().clone(),
        })),
    };
    let server = start_server(listener, service.clone()).map_err(RunError::Start)?;
    let handle = server.handle();
    print_text(&format!("listening on http://{address}\n")).map_err(RunError::Start)?;
    let mut server = pin!(server);
    let mut first_byte = [0];
    tokio::select! {
        ended = &mut server => return ended.map_err(RunError::Serve),
        // If the pipe fails, no later signal would be noticed: treat the failure as a signal.
        _ = signal.read(&mut first_byte) => {}
    }
    // Calls in flight are dropped: the report is about what was applied.
    let stopping = handle.stop(false);
    server.await.map_err(RunError::Serve)?;
    drop(stopping);
    print_text(&format!("{}\n", service.stand_in().report_line()?)).map_err(RunError::Start)
}

fn start_server(listener: TcpListener, service: CrmService) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(PayloadConfig::new(BODY_BYTES_MAX))
            .configure(|config| service.register_routes(config))
    })
    // One thread, so that calls are taken in the order of their arrival.
    .workers(1)
    .on_connect(keep_handle)
    .keep_alive(KEEP_ALIVE_TIMEOUT)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

fn load_schema(common: &CommonOptions, built_in: &str) -> Result<Schema, RunError> {
    let text = match &common.schema {
        None => built_in.to_owned(),
        Some(path) => {
            fs::read_to_string(path).map_err(|source| RunError::SchemaFile { path: path.clone(), source })?
        }
    };
    parse_schema(&text).map_err(RunError::Schema)
}

fn zoho_rules(options: &ZohoOptions, address: SocketAddr) -> CrmRules {
    let tokens = TokenRules {
        lifetime: options.common.token_lifetime,
        live_max: options.live_tokens,
        requests_max: Some(options.token_requests),
        window: options.token_window,
        reaction_time: options.common.reaction_time,
        prefix: "1000",
    };
    let limits = LimitRules {
        calls_max: options.common.concurrency,
        large_calls_max: Some(options.large_call_concurrency),
        credits_max: Some(options.credits),
        window: options.credit_window,
        reaction_time: options.common.reaction_time,
    };
    build_rules(CrmKind::Zoho, &options.common, options.unknown_fields, address, tokens, limits)
}

fn salesforce_rules(options: &SalesforceOptions, address: SocketAddr) -> CrmRules {
    let tokens = TokenRules {
        lifetime: options.common.token_lifetime,
        live_max: usize::MAX,
        requests_max: None,
        window: Duration::ZERO,
        reaction_time: options.common.reaction_time,
        prefix: "00Dxx0000001gPL!AQ",
    };
    let limits = LimitRules {
        calls_max: options.common.concurrency,
        large_calls_max: None,
        credits_max: Some(options.api_calls),
        window: options.api_window,
        reaction_time: options.common.reaction_time,
    };
    build_rules(CrmKind::Salesforce, &options.common, options.unknown_fields, address, tokens, limits)
}

fn build_rules(
    kind: CrmKind,
    common: &CommonOptions,
    unknown_fields: UnknownFields,
    address: SocketAddr,
    tokens: TokenRules,
    limits: LimitRules,
) -> CrmRules {
    CrmRules {
        kind,
        seed: common.seed,
        origin: common.origin.clone().unwrap_or_else(|| format!("http://{address}")),
        client_id: common.client_id.clone(),
        client_secret: common.client_secret.clone(),
        order_rule: OrderRule {
            key_field: common.key_field.clone(),
            order_field: common.order_field.clone(),
        },
        parallel_creates: common.parallel_creates,
        unknown_fields,
        retry_after: common.retry_after,
        tokens,
        limits,
    }
}

fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A stream that gets one byte for each of these signals.
fn open_signal_stream(signals: &[i32]) -> io::Result<UnixStream> {
    let (reader, writer) = StdUnixStream::pair()?;
    for signal in signals {
        pipe::register(*signal, writer.try_clone()?)?;
    }
    reader.set_nonblocking(true)?;
    UnixStream::from_std(reader)
}
