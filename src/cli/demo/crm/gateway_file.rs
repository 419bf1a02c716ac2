//! The configuration file of the demo's gateway: which record becomes what in the CRM.

use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::stand_in::StandIn;
use super::target::CrmKind;

const CLIENT_SECRET_FILE: &str = "client-secret";
const REFRESH_TOKEN_FILE: &str = "refresh-token";
/// The files with secrets that the configuration names, as the stand-in knows them.
pub(super) const SECRETS: [(&str, &str); 2] =
    [(CLIENT_SECRET_FILE, "stand-in-secret\n"), (REFRESH_TOKEN_FILE, "stand-in-refresh\n")];

/// Fields of the payload, with their names at Zoho and at Salesforce.
type FieldNames = [(&'static str, &'static str, &'static str); 5];
const ACCOUNT_FIELDS: FieldNames = [
    ("number", "Fieldsync_Seq", "Fieldsync_Seq__c"),
    ("name", "Account_Name", "Name"),
    ("industry", "Industry", "Industry"),
    ("employees", "Employees", "NumberOfEmployees"),
    ("email", "Email", "Email__c"),
];
const DEAL_FIELDS: FieldNames = [
    ("number", "Fieldsync_Seq", "Fieldsync_Seq__c"),
    ("title", "Deal_Name", "Name"),
    ("stage", "Stage", "StageName"),
    ("amount", "Amount", "Amount"),
    ("product", "Product", "Product__c"),
];

/// The text of the file.
pub(super) fn write_config(crm: &StandIn, dir: &Path, time_budget: Duration) -> String {
    let kind = crm.kind.name();
    let budget = humantime::format_duration(time_budget).to_string();
    let [accounts, deals] = crm.kind.modules();
    let types = [("Accounts", accounts, &ACCOUNT_FIELDS), ("Deals", deals, &DEAL_FIELDS)]
        .map(|(name, module, fields)| Value::Table(type_table(crm.kind, name, module, fields)));
    let destination = table([
        ("kind", kind.into()),
        ("time_budget", budget.into()),
        (kind, Value::Table(credentials_table(crm, dir))),
        ("type", types.to_vec().into()),
    ]);
    let gateway = table([("store", path_text(&dir.join("server.redb")))]);
    table([("gateway", Value::Table(gateway)), ("destination", Value::Table(destination))]).to_string()
}

fn credentials_table(crm: &StandIn, dir: &Path) -> Table {
    let secret = path_text(&dir.join(CLIENT_SECRET_FILE));
    let own = [("client_id", "stand-in-client".into()), ("client_secret_file", secret)];
    let address = match crm.kind {
        CrmKind::Zoho => [
            ("accounts_url", crm.url().into()),
            ("refresh_token_file", path_text(&dir.join(REFRESH_TOKEN_FILE))),
        ],
        CrmKind::Salesforce => [("login_url", crm.url().into()), ("api_version", "v62.0".into())],
    };
    table(own.into_iter().chain(address))
}

fn type_table(kind: CrmKind, name: &str, module: &str, fields: &FieldNames) -> Table {
    let suffix = kind.custom_suffix();
    let renamed = fields.iter().map(|(field, zoho, salesforce)| {
        (*field, Value::from(if kind == CrmKind::Zoho { *zoho } else { *salesforce }))
    });
    let mut entry = table([
        ("name", name.into()),
        ("module", module.into()),
        ("id_field", format!("Fieldsync_Id{suffix}").into()),
        ("key_field", format!("Fieldsync_Key{suffix}").into()),
        ("fields", Value::Table(table(renamed))),
    ]);
    if kind == CrmKind::Zoho {
        // No workflow is to run for records of a device.
        entry.insert("trigger".into(), Value::Array(Vec::new()));
    }
    entry
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Table {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn path_text(path: &Path) -> Value {
    path.display().to_string().into()
}
