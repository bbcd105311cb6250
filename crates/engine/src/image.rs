pub struct Image {
    pub id: String,
    pub manifest_digest: String,
    pub references: Vec<String>,
    pub config: oci_spec::image::ImageConfiguration,
    pub size: u64,
    pub created: Option<String>,
}
