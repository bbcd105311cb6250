//! A CA of the tests' own, and what it signs.

use std::path::Path;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// A certification authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// The key in PKCS #8.
    pub(crate) fn key_der(&self) -> Vec<u8> {
        self.0.key().serialize_der()
    }

    /// Writes `certificate` and `key`: for a server at 127.0.0.1, or for a client.
    pub(crate) fn issue(&self, usage: ExtendedKeyUsagePurpose, certificate: &Path, key: &Path) -> Result<()> {
        let mut params =
            CertificateParams::new(["127.0.0.1", "registry.test", "registry-1.docker.io"].map(String::from))?;
        params.extended_key_usages = vec![usage];
        let pair = KeyPair::generate()?;
        let issued = params.signed_by(&pair, &self.0)?;
        std::fs::write(certificate, issued.pem())?;
        std::fs::write(key, pair.serialize_pem())?;
        Ok(())
    }
}
