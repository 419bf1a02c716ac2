//! The stand-in for Zoho CRM, a gateway in front of it, and batches of accounts.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::crm_stand_in::{CrmKind, StandIn};
use crate::support::device::{Batch, Record};
use crate::support::gateway::{ANY_PORT, Gateway, command};
use crate::support::wait::wait_for;

/// A stand-in for Zoho; killed when dropped.
pub(crate) struct Crm(StandIn);

impl Crm {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self(StandIn::start(CrmKind::Zoho, options))
    }

    pub(crate) fn set_faults(&self, changes: &Value) {
        self.0.set_faults(changes);
    }

    pub(crate) fn clear_faults(&self) {
        self.0.clear_faults();
    }

    /// What its clients did with accounts.
    pub(crate) fn accounts(&self) -> Value {
        self.0.assert_clean()["modules"]["Accounts"].clone()
    }

    /// Waits until so many calls have arrived.
    pub(crate) fn wait_for_calls(&self, calls: u64) {
        wait_for("calls of the CRM", || (self.accounts()["calls"].as_u64()? >= calls).then_some(()));
    }

    /// The CRM's ids of the accounts, in the order of the batch.
    #[track_caller]
    pub(crate) fn ids_of(&self, batch: &Batch) -> Vec<String> {
        let stored = self.0.stored();
        let find = |id: &uuid::Uuid| {
            let record = stored.get(&id.to_string()).unwrap_or_else(|| panic!("{id} is missing"));
            record.id.clone()
        };
        batch.ids().iter().map(find).collect()
    }

    /// Writes the configuration of a gateway in front of this CRM.
    pub(crate) fn configure(&self, directory: &Path, time_budget: &str) -> String {
        for (name, secret) in [("client-secret", "stand-in-secret"), ("refresh-token", "stand-in-refresh")] {
            fs::write(directory.join(name), secret).unwrap();
        }
        let mut text = format!("[destination]\nkind = \"zoho\"\ntime_budget = {time_budget:?}\n\n");
        write!(
            text,
            "[destination.zoho]\naccounts_url = \"{}\"\nclient_id = \"stand-in-client\"\n\
             client_secret_file = \"{}\"\nrefresh_token_file = \"{}\"\n\n\
             [[destination.type]]\nname = \"Visits\"\nmodule = \"Accounts\"\nid_field = \"Fieldsync_Id\"\n\
             key_field = \"Fieldsync_Key\"\ntrigger = []\nfields = {{ name = \"Account_Name\" }}\n",
            self.0.url(),
            directory.join("client-secret").display(),
            directory.join("refresh-token").display(),
        )
        .unwrap();
        let path = directory.join("gateway.toml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts a gateway on this store; its log is in `log` of the directory.
    pub(crate) fn gateway(&self, store: &str, directory: &Path, time_budget: &str) -> Gateway {
        let file = self.configure(directory, time_budget);
        let log = fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut command = command(store, ANY_PORT, &["--config", &file]);
        command.env("RUST_LOG", "info").stderr(log);
        Gateway::start_by(command)
    }
}

/// An account with this name.
pub(crate) fn account(name: &str) -> Record {
    Record::new(&format!(r#"{{"name":"{name}"}}"#))
}

/// An account that the CRM refuses with this code.
pub(crate) fn refused_account(code: &str) -> Record {
    Record::new(&format!(r#"{{"name":"refused","Stand_In":"{code}"}}"#))
}

/// With a key.
pub(crate) fn keyed(mut record: Record, key: &str) -> Record {
    record.key = Some(key.into());
    record
}

/// A batch of that many accounts.
pub(crate) fn accounts(count: usize) -> Batch {
    Batch::with((0..count).map(|number| account(&format!("account {number}"))).collect())
}
