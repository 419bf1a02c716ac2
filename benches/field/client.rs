//! Clients that start several requests and are notified of what happens, alone or several in one world.

use crate::events::DeviceId;
use crate::world::{Notice, World};

pub(crate) trait Client {
    /// Starts what can be started now, and says when it wants to be woken.
    fn act(&mut self, world: &mut World);

    /// Something happened that concerns this client. It is asked to act next.
    fn handle(&mut self, world: &mut World, notice: Notice);

    /// Whether it has nothing to do any more.
    fn is_finished(&self) -> bool;
}

/// Runs one client for each device, until all are finished, the horizon is reached, or nothing is planned.
pub(crate) fn run_clients<C: Client>(world: &mut World, mut clients: Vec<C>) -> Vec<C> {
    for client in &mut clients {
        client.act(world);
    }
    while !world.is_past_horizon() && !clients.iter().all(Client::is_finished) {
        let Some((device, notice)): Option<(DeviceId, Notice)> = world.next_notice() else { break };
        if let Some(client) = clients.get_mut(device) {
            client.handle(world, notice);
            client.act(world);
        }
    }
    clients
}
