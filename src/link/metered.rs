//! Whether every byte costs money, as NetworkManager says over D-Bus, where it runs.
//!
//! It is never started by asking: as long as nobody owns its name, nothing is known.

use futures_util::StreamExt;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::BusName;

const NAME: &str = "org.freedesktop.NetworkManager";

#[zbus::proxy(
    interface = "org.freedesktop.NetworkManager",
    default_service = "org.freedesktop.NetworkManager",
    default_path = "/org/freedesktop/NetworkManager"
)]
trait NetworkManager {
    #[zbus(property)]
    fn metered(&self) -> zbus::Result<u32>;
}

/// Tells what is known, as soon as it is and whenever it changes, until the bus goes away.
pub async fn follow(mut told: impl AsyncFnMut(Option<bool>)) -> zbus::Result<()> {
    let bus = Connection::system().await?;
    let anyone = NetworkManagerProxy::new(&bus).await?;
    let mut owners = anyone.inner().receive_owner_changed().await?;
    let mut there = DBusProxy::new(&bus).await?.name_has_owner(BusName::try_from(NAME)?).await?;
    loop {
        if !there {
            told(None).await;
            let Some(owner) = owners.next().await else { return Ok(()) };
            there = owner.is_some();
            continue;
        }
        // A proxy of its own for each manager: one remembers what the last manager said.
        let manager = NetworkManagerProxy::new(&bus).await?;
        // The first item is what holds now.
        let mut changes = manager.receive_metered_changed().await;
        loop {
            tokio::select! {
                owner = owners.next() => {
                    let Some(owner) = owner else { return Ok(()) };
                    there = owner.is_some();
                    break;
                }
                change = changes.next() => {
                    let Some(change) = change else { return Ok(()) };
                    told(change.get().await.ok().and_then(is_metered)).await;
                }
            }
        }
    }
}

/// `NMMetered`: unknown, yes, no, and guesses of the two.
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
    fn guesses_count_and_the_unknown_is_unknown() {
        let all = [0, 1, 2, 3, 4, 5].map(is_metered);
        assert_eq!(all, [None, Some(true), Some(false), Some(true), Some(false), None]);
    }
}
