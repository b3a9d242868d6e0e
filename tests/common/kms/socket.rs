//! Who listens at the plugin's socket.

use std::os::unix::net;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::pb::v1beta1::key_management_service_server::KeyManagementServiceServer as ServerV1;
use super::pb::v2::key_management_service_server::KeyManagementServiceServer as ServerV2;
use super::service::{V1, V2};
use super::{Shared, Socket};

/// Serves for as long as it is polled.
pub(super) async fn serve(socket: Socket, listener: net::UnixListener, shared: Arc<Shared>) {
    let listener = UnixListener::from_std(listener).expect("a socket");
    if socket == Socket::Grpc {
        return Server::builder()
            .add_service(ServerV1::new(V1(Arc::clone(&shared))))
            .add_service(ServerV2::new(V2(shared)))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .expect("the plugin serves");
    }
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        if socket != Socket::Closing {
            tokio::spawn(misbehave(socket, stream));
        }
    }
}

async fn misbehave(socket: Socket, mut stream: UnixStream) {
    let mut seen = vec![0; 4096];
    let _ = stream.read(&mut seen).await;
    let answer: &[u8] = match socket {
        Socket::Garbage => &[0xa5; 3000],
        Socket::Http1 => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno\n",
        _ => b"",
    };
    let _ = stream.write_all(answer).await;
    // Held open until the plugin is stopped.
    while stream.read(&mut seen).await.is_ok_and(|count| count > 0) {}
    std::future::pending::<()>().await;
}
