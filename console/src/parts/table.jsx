// A table that is readable on a phone as well.

/**
 * `columns` are `{ name, title, cell(row), number, minor, wide, medium }`. On a narrow screen minor columns are left out, or, if `stacked`,
 * each row becomes a list of its columns. The roles keep it a table for screen readers when CSS changes the layout.
 */
export function Table({ label, columns, rows, id, stacked = false, rowClass }) {
  return (
    <div class="table-scroll" role="region" aria-label={label} tabIndex={0}>
      <table class={`table ${stacked ? 'stacked' : ''}`} role="table" aria-label={label}>
        <thead role="rowgroup">
          <tr role="row">{columns.map((column) => <th key={column.name} role="columnheader" scope="col" class={classes(column)}>{column.title}</th>)}</tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr key={id(row)} role="row" class={rowClass?.(row)}>
              {columns.map((column) => (
                <td key={column.name} role="cell" class={classes(column)} data-label={column.title}><div class="cell">{column.cell(row)}</div></td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function classes({ number, minor, wide, medium }) {
  return [number && 'number', minor && 'minor', wide && 'wide', medium && 'medium'].filter(Boolean).join(' ') || undefined;
}
