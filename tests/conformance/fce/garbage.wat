this is no wat
