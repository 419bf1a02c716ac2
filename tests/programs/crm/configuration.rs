//! The configuration file of a gateway in front of a CRM.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::records::ORDER_MEMBER;
use crate::support::crm_stand_in::CrmKind;

/// How long the answer to a batch waits for the CRM.
const TIME_BUDGET: &str = "10s";
/// Fields of the payload, with their names at Zoho and at Salesforce.
const ACCOUNT_FIELDS: [(&str, &str, &str); 8] = [
    ("account", "Account_Name", "Name"),
    ("sector", "Industry", "Industry"),
    ("year_established", "Year_Established", "Year_Established__c"),
    ("revenue", "Annual_Revenue", "AnnualRevenue"),
    ("employees", "Employees", "NumberOfEmployees"),
    ("office_location", "Billing_Country", "BillingCountry"),
    ("subsidiary_of", "Parent_Account_Name", "Parent_Account_Name__c"),
    ("mail", "Email", "Email__c"),
];
const DEAL_FIELDS: [(&str, &str, &str); 8] = [
    ("opportunity_id", "Deal_Name", "Name"),
    ("deal_stage", "Stage", "StageName"),
    ("close_value", "Amount", "Amount"),
    ("sales_agent", "Sales_Agent", "Sales_Agent__c"),
    ("product", "Product", "Product__c"),
    ("account", "Account_Name", "Account_Name__c"),
    ("engage_date", "Engage_Date", "Engage_Date__c"),
    ("close_date", "Close_Date", "Close_Date__c"),
];

/// What the file says.
#[derive(Clone, Debug)]
pub(super) struct GatewayConfiguration {
    pub(super) kind: CrmKind,
    /// Where the CRM is.
    pub(super) crm_url: String,
    pub(super) store: String,
    /// Of Zoho, instead of the address that comes with a token.
    pub(super) api_domain: Option<String>,
    /// The module of deals, if it is not the one that the CRM has.
    pub(super) deals_module: Option<&'static str>,
    pub(super) client_secret: &'static str,
}

impl GatewayConfiguration {
    /// Writes the file and the secrets that it names, and returns its path.
    pub(super) fn write(&self, directory: &Path) -> PathBuf {
        for (name, secret) in [("client-secret", self.client_secret), ("refresh-token", "stand-in-refresh")] {
            fs::write(directory.join(name), secret).unwrap();
        }
        let path = directory.join("gateway.toml");
        fs::write(&path, self.text(directory)).unwrap();
        path
    }

    fn text(&self, directory: &Path) -> String {
        let kind = self.kind.name();
        let secret = |name: &str| directory.join(name).display().to_string();
        let mut text = format!(
            "[gateway]\nstore = {:?}\n\n[destination]\nkind = {kind:?}\ntime_budget = {TIME_BUDGET:?}\n\n\
             [destination.{kind}]\nclient_id = \"stand-in-client\"\nclient_secret_file = {:?}\n",
            self.store,
            secret("client-secret"),
        );
        match self.kind {
            CrmKind::Zoho => {
                let refresh_token = secret("refresh-token");
                writeln!(text, "accounts_url = {:?}\nrefresh_token_file = {refresh_token:?}", self.crm_url)
                    .unwrap();
                if let Some(domain) = &self.api_domain {
                    writeln!(text, "api_domain = {domain:?}").unwrap();
                }
            }
            CrmKind::Salesforce => {
                writeln!(text, "login_url = {:?}\napi_version = \"v62.0\"", self.crm_url).unwrap();
            }
        }
        for (record_type, fields) in [("Accounts", ACCOUNT_FIELDS), ("Deals", DEAL_FIELDS)] {
            let renamed = self.deals_module.filter(|_| record_type == "Deals");
            let module = renamed.unwrap_or_else(|| self.kind.module(record_type));
            self.write_type(&mut text, record_type, module, &fields);
        }
        text
    }

    fn write_type(&self, text: &mut String, name: &str, module: &str, fields: &[(&str, &str, &str)]) {
        writeln!(
            text,
            "\n[[destination.type]]\nname = {name:?}\nmodule = {module:?}\nid_field = {:?}\nkey_field = {:?}",
            self.kind.id_field(),
            self.kind.key_field(),
        )
        .unwrap();
        if self.kind == CrmKind::Zoho {
            // As the data are from a device, no workflow is to run.
            writeln!(text, "trigger = []").unwrap();
        }
        let order_field = self.kind.order_field();
        let renamed = fields.iter().map(|(field, zoho, salesforce)| {
            (*field, if self.kind == CrmKind::Zoho { *zoho } else { *salesforce })
        });
        let renamed = renamed.chain([(ORDER_MEMBER, order_field.as_str())]);
        let entries: Vec<String> = renamed.map(|(field, renamed)| format!("{field} = {renamed:?}")).collect();
        writeln!(text, "fields = {{ {} }}", entries.join(", ")).unwrap();
    }
}
