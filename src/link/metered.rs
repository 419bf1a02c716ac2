//! Whether the network is metered, from NetworkManager over D-Bus if it runs.
//!
//! A request never starts NetworkManager: while its name has no owner, nothing is known.

use futures_util::StreamExt;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::BusName;

const BUS_NAME: &str = "org.freedesktop.NetworkManager";

#[zbus::proxy(
    interface = "org.freedesktop.NetworkManager",
    default_service = "org.freedesktop.NetworkManager",
    default_path = "/org/freedesktop/NetworkManager"
)]
trait NetworkManager {
    #[zbus(property)]
    fn metered(&self) -> zbus::Result<u32>;
}

/// Reports the present value and each change until the bus goes away. `None` means unknown.
pub async fn follow_metered(mut on_change: impl AsyncFnMut(Option<bool>)) -> zbus::Result<()> {
    let bus = Connection::system().await?;
    let service = NetworkManagerProxy::new(&bus).await?;
    let mut owners = service.inner().receive_owner_changed().await?;
    let mut is_running = DBusProxy::new(&bus).await?.name_has_owner(BusName::try_from(BUS_NAME)?).await?;
    loop {
        if !is_running {
            on_change(None).await;
            let Some(owner) = owners.next().await else { return Ok(()) };
            is_running = owner.is_some();
            continue;
        }
        // A new proxy for each manager: a proxy caches what the last manager reported.
        let manager = NetworkManagerProxy::new(&bus).await?;
        // The first item is the present value.
        let mut changes = manager.receive_metered_changed().await;
        loop {
            tokio::select! {
                owner = owners.next() => {
                    let Some(owner) = owner else { return Ok(()) };
                    is_running = owner.is_some();
                    break;
                }
                change = changes.next() => {
                    let Some(change) = change else { return Ok(()) };
                    on_change(change.get().await.ok().and_then(is_metered)).await;
                }
            }
        }
    }
}

/// `NMMetered`: unknown, yes, no, guessed yes, guessed no.
fn is_metered(value: u32) -> Option<bool> {
    match value {
        1 | 3 => Some(true),
        2 | 4 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::is_metered;

    #[test]
    fn guesses_count_and_unknown_values_are_none() {
        let all = [0, 1, 2, 3, 4, 5].map(is_metered);
        assert_eq!(all, [None, Some(true), Some(false), Some(true), Some(false), None]);
    }
}
