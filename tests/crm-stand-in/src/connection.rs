//! Breaks connections: for calls that get no answer, or half of one.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream as ServerStream;

/// A second handle to the socket of a connection.
struct ConnectionHandle(TcpStream);

/// Keeps a handle to each new connection.
pub(crate) fn keep_handle(connection: &dyn Any, extensions: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<ServerStream>() else { return };
    if let Ok(socket) = stream.as_fd().try_clone_to_owned() {
        extensions.insert(ConnectionHandle(TcpStream::from(socket)));
    }
}

/// Closes the connection of a request: what the server writes from now on is lost.
pub(crate) fn break_connection(request: &HttpRequest) {
    if let Some(handle) = request.conn_data::<ConnectionHandle>() {
        // It fails if the client was faster, which is what is wanted.
        drop(handle.0.shutdown(Shutdown::Both));
    }
}
