//! Where files with secrets are: a relative name may be that of a systemd credential.

use std::env;
use std::path::{Path, PathBuf};

/// The directory in which systemd puts the credentials of the unit.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The file that a path means: a relative path names a systemd credential if there is one of this name, else a file
/// relative to the working directory.
pub(crate) fn find_secret_file(path: &Path) -> PathBuf {
    find_in(env::var_os(CREDENTIALS_VARIABLE).map(PathBuf::from), path)
}

fn find_in(credentials: Option<PathBuf>, path: &Path) -> PathBuf {
    // Joined with an absolute path, a directory has no effect.
    let credential = credentials.filter(|_| path.is_relative()).map(|directory| directory.join(path));
    credential.filter(|credential| credential.exists()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_name_is_a_credential_if_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let credential = directory.path().join("zoho-secret");
        std::fs::write(&credential, "s").unwrap();
        let find = |path: &str| find_in(Some(directory.path().into()), Path::new(path));
        assert_eq!(find("zoho-secret"), credential);
        assert_eq!(find("other"), Path::new("other"));
        assert_eq!(find("/etc/zoho-secret"), Path::new("/etc/zoho-secret"));
        assert_eq!(find_in(None, Path::new("zoho-secret")), Path::new("zoho-secret"));
    }
}
