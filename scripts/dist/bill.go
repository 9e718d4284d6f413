package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What SPDX 2.3 calls its objects, as JSON.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		DataLicence   string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		Name             string         `json:"name"`
		ID               string         `json:"SPDXID"`
		Version          string         `json:"versionInfo"`
		FileName         string         `json:"packageFileName,omitempty"`
		Supplier         string         `json:"supplier"`
		DownloadLocation string         `json:"downloadLocation"`
		FilesAnalyzed    bool           `json:"filesAnalyzed"`
		Checksums        []spdxChecksum `json:"checksums,omitempty"`
		LicenceConcluded string         `json:"licenseConcluded"`
		LicenceDeclared  string         `json:"licenseDeclared"`
		Copyright        string         `json:"copyrightText"`
		Purpose          string         `json:"primaryPackagePurpose"`
		SourceInfo       string         `json:"sourceInfo,omitempty"`
		References       []spdxRef      `json:"externalRefs"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const (
	project    = "github.com/cnibox/cnibox"
	noneTold   = "NOASSERTION"
	documentID = "SPDXRef-DOCUMENT"
	ownID      = "SPDXRef-cnibox"
)

// bill writes what is in an executable, as SPDX.
func (r *release) bill(p program, _ tree) error {
	executable, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	doc := r.spdx(p, fmt.Sprintf("%x", sha256.Sum256(executable)))
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, doc.Name+".spdx.json"), append(text, '\n'), 0o644)
}

func (r *release) spdx(p program, sum string) spdxDocument {
	name := "cnibox-" + r.version + "-linux-" + p.arch.name
	doc := spdxDocument{
		Version: "SPDX-2.3", DataLicence: "CC0-1.0", ID: documentID, Name: name,
		Namespace: "https://" + project + "/spdx/" + name + "-" + sum[:16],
		Creation:  spdxCreation{r.time.Format(time.RFC3339), []string{"Organization: cnibox", "Tool: cnibox-dist"}},
	}
	doc.Packages = append(doc.Packages, spdxPackage{
		Name: "cnibox", ID: ownID, Version: r.version, FileName: "cnibox", Supplier: "Organization: cnibox", DownloadLocation: noneTold,
		Checksums: []spdxChecksum{{"SHA256", sum}}, LicenceConcluded: "Apache-2.0", LicenceDeclared: "Apache-2.0", Copyright: noneTold,
		Purpose: "APPLICATION", References: []spdxRef{packageURL(project, r.version)},
	})
	doc.Relationships = append(doc.Relationships, spdxRelationship{documentID, "DESCRIBES", ownID})
	for _, m := range p.modules {
		id := "SPDXRef-" + strings.Map(idRune, m.path)
		info, from := "", noneTold
		if m.sum != "" {
			info = "go.sum: " + m.sum
			from = "https://proxy.golang.org/" + escaped(m.path) + "/@v/" + escaped(m.version) + ".zip"
		}
		doc.Packages = append(doc.Packages, spdxPackage{
			Name: m.path, ID: id, Version: m.version, Supplier: noneTold, DownloadLocation: from, LicenceConcluded: m.licence, LicenceDeclared: m.licence,
			Copyright: noneTold, Purpose: "LIBRARY", SourceInfo: info, References: []spdxRef{packageURL(m.path, m.version)},
		})
		doc.Relationships = append(doc.Relationships, spdxRelationship{ownID, "CONTAINS", id})
	}
	return doc
}

// packageURL is the name by which data bases of vulnerabilities know a module.
func packageURL(path, version string) spdxRef {
	if path == golang {
		version = strings.TrimPrefix(version, "go")
	}
	return spdxRef{"PACKAGE-MANAGER", "purl", "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")}
}

// idRune is what an identifier of SPDX has in the place of a rune.
func idRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
		return r
	}
	return '-'
}
