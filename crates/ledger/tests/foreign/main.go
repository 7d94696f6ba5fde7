// Go's own note and tlog packages (golang.org/x/mod/sumdb) on our checkpoints, proofs and tiles.
//
// Tiles are read through tlog.TileHashReader, which proves each against the checkpoint before it hands out a hash.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type testCase struct {
	Name, Kind, Note, Vkey, Folder, Leaf string
	OldNote                              string `json:"old_note"`
	Index                                int64
	Path                                 []string
}

const height = 8

func main() {
	text, err := os.ReadFile(os.Args[1])
	check(err)
	var cases []testCase
	check(json.Unmarshal(text, &cases))
	kinds := map[string]func(testCase) error{
		"checkpoint":  func(c testCase) error { _, err := open(c.Note, c.Vkey); return err },
		"inclusion":   inclusion,
		"consistency": consistency,
		"tiles":       tiles,
	}
	answers := make([]*bool, len(cases))
	for i, c := range cases {
		if kind := kinds[c.Kind]; kind != nil {
			err := kind(c)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", c.Name, err)
			}
			holds := err == nil
			answers[i] = &holds
		}
	}
	check(json.NewEncoder(os.Stdout).Encode(answers))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// open is what tlog.ParseTree does, which insists on another first line.
func open(text, vkey string) (tree tlog.Tree, err error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tree, err
	}
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("not a checkpoint of %s", verifier.Name())
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

func hashes(path []string) (list []tlog.Hash, err error) {
	for _, text := range path {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		list = append(list, hash)
	}
	return list, nil
}

func inclusion(c testCase) error {
	tree, err := open(c.Note, c.Vkey)
	if err != nil {
		return err
	}
	path, err := hashes(c.Path)
	if err != nil {
		return err
	}
	leaf, err := base64.StdEncoding.DecodeString(c.Leaf)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, tree.N, tree.Hash, c.Index, tlog.RecordHash(leaf))
}

func consistency(c testCase) error {
	older, err := open(c.OldNote, c.Vkey)
	if err != nil {
		return err
	}
	tree, err := open(c.Note, c.Vkey)
	if err != nil {
		return err
	}
	path, err := hashes(c.Path)
	if err != nil {
		return err
	}
	return tlog.CheckTree(path, tree.N, tree.Hash, older.N, older.Hash)
}

type reader struct {
	folder string
}

func (reader) Height() int { return height }

func (reader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r reader) ReadTiles(wanted []tlog.Tile) (read [][]byte, err error) {
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(r.folder, path(tile)))
		if err != nil {
			return nil, err
		}
		read = append(read, data)
	}
	return read, nil
}

// path is a tile's, without the height that C2SP tlog-tiles leaves out, and with its name for entries.
func path(tile tlog.Tile) string {
	name := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	return "tile/" + strings.Replace(name, "data/", "entries/", 1)
}

func tiles(c testCase) error {
	text, err := os.ReadFile(filepath.Join(c.Folder, "checkpoint"))
	if err != nil {
		return err
	}
	tree, err := open(string(text), c.Vkey)
	if err != nil {
		return err
	}
	proven := tlog.TileHashReader(tree, reader{c.Folder})
	for start := int64(0); start < tree.N; start += 1 << height {
		width := tree.N - start
		if width > 1<<height {
			width = 1 << height
		}
		var indexes []int64
		for i := int64(0); i < width; i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, start+i))
		}
		leaves, err := proven.ReadHashes(indexes)
		if err != nil {
			return err
		}
		bundle, err := os.ReadFile(filepath.Join(c.Folder, path(tlog.Tile{H: height, L: -1, N: start >> height, W: int(width)})))
		if err != nil {
			return err
		}
		for i, hash := range leaves {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("entry %d is cut short", start+int64(i))
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			if tlog.RecordHash(bundle[2:end]) != hash {
				return fmt.Errorf("entry %d is not the one in the tree", start+int64(i))
			}
			bundle = bundle[end:]
		}
		if len(bundle) != 0 {
			return fmt.Errorf("bundle at %d has more than its entries", start)
		}
	}
	return nil
}
