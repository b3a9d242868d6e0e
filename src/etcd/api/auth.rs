//! Auth: whether anybody needs permissions at all.

use std::time::Duration;

use super::call::{Rpc, framed};
use super::{CallError, Client, Trouble, read};
use crate::wire::put_bytes;

/// Since 3.5.
const AUTH_STATUS: Rpc = Rpc {
    name: "Auth/AuthStatus",
    path: "/etcdserverpb.Auth/AuthStatus",
    timeout: Duration::from_secs(10),
};
const AUTHENTICATE: Rpc = Rpc {
    name: "Auth/Authenticate",
    path: "/etcdserverpb.Auth/Authenticate",
    timeout: Duration::from_secs(10),
};

/// `bool AuthStatusResponse.enabled`
const ENABLED: u32 = 2;
/// `string AuthenticateRequest.name`
const NAME: u32 = 1;

/// What etcd says to whoever authenticates where nobody has to. Source: etcd's public table of errors,
/// `api/v3rpc/rpctypes/error.go`.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

impl Client {
    /// Whether etcd's authentication is known to be off. What cannot be found out counts as on.
    pub async fn is_authentication_off(&self) -> bool {
        match self.unary(AUTH_STATUS, framed(|_| {})).await {
            Ok(message) => read::number(&message, ENABLED).is_ok_and(|enabled| enabled == 0),
            Err(error) if error.trouble() == Trouble::Unimplemented => self.nobody_can_authenticate().await,
            Err(_) => false,
        }
    }

    /// For etcd before 3.5: it says so before it looks at the name.
    async fn nobody_can_authenticate(&self) -> bool {
        let asked = self.unary(
            AUTHENTICATE,
            framed(|out| put_bytes(out, NAME, b"etcd-encryption-proxy")),
        );
        matches!(asked.await, Err(CallError::Status { text, .. }) if text == NOT_ENABLED)
    }
}
