//! What both ends of a connection have to know: TCP addresses as users write them, certificates and keys in files, and a verifier
//! that takes any certificate.

mod anybody;
pub mod pem;
mod tcp;

pub use anybody::Anybody;
pub use pem::PemError;
pub use tcp::{NoTcpAddress, TcpAddress};
