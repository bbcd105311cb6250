//! A CA of the tests' own, and what it signs.

use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// The address that registries of the tests listen at, and names under which a proxy leads to them.
const NAMES: [&str; 3] = ["127.0.0.1", "registry.test", "registry-1.docker.io"];

/// A certification authority that nobody else trusts.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One of this name.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate, as `ca.crt` of a `certs.d` folder has it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Its certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// Its key in PKCS #8.
    pub fn key_der(&self) -> Vec<u8> {
        self.0.key().serialize_der()
    }

    /// Writes the certificate and the key of a server.
    pub fn issue_server(&self, certificate: &Path, key: &Path) -> Result<()> {
        self.issue(ExtendedKeyUsagePurpose::ServerAuth, certificate, key)
    }

    /// Writes the certificate and the key of a client.
    pub fn issue_client(&self, certificate: &Path, key: &Path) -> Result<()> {
        self.issue(ExtendedKeyUsagePurpose::ClientAuth, certificate, key)
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose, certificate: &Path, key: &Path) -> Result<()> {
        let mut params = CertificateParams::new(NAMES.map(String::from))?;
        params.extended_key_usages = vec![usage];
        let pair = KeyPair::generate()?;
        std::fs::write(certificate, params.signed_by(&pair, &self.0)?.pem())?;
        std::fs::write(key, pair.serialize_pem())?;
        Ok(())
    }
}
