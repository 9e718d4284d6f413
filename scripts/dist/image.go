package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// imageName is what registries and manifests call the image.
const imageName = "ghcr.io/cnibox/cnibox"

const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// image is an image of the installer for all architectures, as an archive of an OCI layout. There is nothing in it but the executable and
// the licences.
type image struct {
	*release
	blobs     tree
	manifests []descriptor
}

// What the OCI image specification calls its objects.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Platform    *platform         `json:"platform,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Variant      string `json:"variant,omitempty"`
	}
	manifest struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        *descriptor       `json:"config,omitempty"`
		Layers        []descriptor      `json:"layers,omitempty"`
		Manifests     []descriptor      `json:"manifests,omitempty"`
		Annotations   map[string]string `json:"annotations,omitempty"`
	}
	imageConfig struct {
		platform
		Created string       `json:"created"`
		Config  runConfig    `json:"config"`
		RootFS  rootFS       `json:"rootfs"`
		History []historyRow `json:"history"`
	}
	runConfig struct {
		Entrypoint []string
		Cmd        []string
		Env        []string
		Labels     map[string]string
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
	historyRow struct {
		Created   string `json:"created"`
		CreatedBy string `json:"created_by"`
	}
)

// add adds the image of an architecture.
func (i *image) add(p program, _ tree) error {
	executable, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	licence, err := readFile("LICENSE")
	if err != nil {
		return err
	}
	layer := tree{
		"cnibox": {data: executable, mode: 0o755}, "licenses/LICENSE": licence, "licenses/LICENSE.third-party": text(thirdParty(p.modules)),
	}
	compressed, err := layer.tarGz(i.time)
	if err != nil {
		return err
	}
	digest := sha256.New()
	if err := layer.writeTar(digest, i.time); err != nil {
		return err
	}
	created := i.time.Format(time.RFC3339)
	config, err := i.blob(configType, imageConfig{
		platform: platform{p.arch.name, "linux", p.arch.variant}, Created: created,
		Config: runConfig{
			Entrypoint: []string{"/cnibox"}, Cmd: []string{"install", "--dir", "/host/opt/cni/bin"}, Env: []string{"PATH=/"}, Labels: i.labels(),
		},
		RootFS:  rootFS{"layers", []string{fmt.Sprintf("sha256:%x", digest.Sum(nil))}},
		History: []historyRow{{created, "make dist"}},
	})
	if err != nil {
		return err
	}
	m, err := i.blob(manifestType, manifest{
		SchemaVersion: 2, MediaType: manifestType, Config: &config, Layers: []descriptor{i.raw(layerType, compressed)}, Annotations: i.labels(),
	})
	m.Platform = &platform{p.arch.name, "linux", p.arch.variant}
	i.manifests = append(i.manifests, m)
	return err
}

func (i *image) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":    "cnibox",
		"org.opencontainers.image.version":  i.version,
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.source":   "https://" + project,
	}
}

// blob adds an object and tells how to refer to it.
func (i *image) blob(mediaType string, object any) (descriptor, error) {
	data, err := json.Marshal(object)
	return i.raw(mediaType, data), err
}

func (i *image) raw(mediaType string, data []byte) descriptor {
	if i.blobs == nil {
		i.blobs = tree{}
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	i.blobs["blobs/sha256/"+sum] = file{data: data, mode: fs.FileMode(0o644)}
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: len(data)}
}

// write writes the archive. Its index leads to the index of the architectures, which is the image that a registry would have.
func (i *image) write() error {
	all, err := i.blob(indexType, manifest{SchemaVersion: 2, MediaType: indexType, Manifests: i.manifests, Annotations: i.labels()})
	if err != nil {
		return err
	}
	all.Annotations = map[string]string{
		"org.opencontainers.image.ref.name": i.version, // what skopeo and podman go by
		"io.containerd.image.name":          imageName + ":" + i.version,
	}
	index, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{all}})
	if err != nil {
		return err
	}
	layout := tree{"oci-layout": text(`{"imageLayoutVersion":"1.0.0"}`), "index.json": {data: index, mode: 0o644}}
	layout.add("", i.blobs)
	out, err := os.Create(filepath.Join(i.out, "cnibox-"+i.version+"-oci.tar"))
	if err != nil {
		return err
	}
	if err := layout.writeTar(out, i.time); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
